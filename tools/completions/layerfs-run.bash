# bash completion for layerfs-run(1)

_layerfs_run_containers() { layerfs-run ps 2>/dev/null | cut -f 1; }

_layerfs_run() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' choices=''
    case ${COMP_WORDS[1]} in
        exec | ps | inspect | stats | stop | kill | doctor) ((COMP_CWORD > 1)) && command=${COMP_WORDS[1]} ;;
    esac
    # '=' breaks words: --net=pasta arrives as --net, =, pasta.
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $command:$previous in
        :--net) choices='none host pasta' ;;
        :--cgroups) choices='strict best-effort' ;;
        :--seccomp)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -W 'default unconfined' -- "$current"; compgen -f -- "$current")
            return
            ;;
        :--image)
            compopt -o nospace
            mapfile -t COMPREPLY < <(compgen -W 'oci: oci-archive: docker-archive:' -- "$current"; compgen -f -- "$current")
            return
            ;;
        :-l | :--layers | :--upper | :--store)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            return
            ;;
        :-v | :--volume | :--env-file | :--log | :--device-allow)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
            ;;
        kill:-s | kill:--signal) choices=$(compgen -A signal SIG | sed 's/^SIG//') ;;
        *:-e | *:--env | *:-w | *:--workdir | *:-u | *:--user | *:-t | *:--time | *:--watch | :--name | \
            :--hostname | :--entrypoint | :--tmpfs | :--ulimit | :-p | :--publish | :--net-rate | :--cap-add | \
            :--cap-drop | :-m | :--memory | :--memory-swap | :--cpus | :--cpu-shares | :--cpuset-cpus | \
            :--pids | :--io | :--io-weight | :--status-fd)
            [[ $command:$previous == @(:-t|exec:-t) ]] || return
            ;;
    esac
    if [[ -n $choices ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
        return
    fi
    if [[ $current == -* ]]; then
        case $command in
            exec) choices='--tty --interactive --env --user --workdir --help' ;;
            ps) choices='--json --help' ;;
            stats) choices='--watch --help' ;;
            stop) choices='--time --help' ;;
            kill) choices='--signal --help' ;;
            inspect | doctor) choices='--help' ;;
            *)
                choices='--layers --image --store --upper --read-only --volume --tmpfs --name --env --env-file
                    --entrypoint --workdir --user --hostname --ulimit --tty --interactive --detach --log
                    --rm --no-init --net --publish --net-rate --share-user --share-pid --share-net
                    --share-uts --share-ipc --share-cgroup --share-time --cap-add --cap-drop --seccomp
                    --new-privs --memory --memory-swap --cpus --cpu-shares --cpuset-cpus --pids --io
                    --io-weight --device-allow --cgroups --status-fd --help --version'
                ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
        return
    fi
    case $command in
        exec | inspect | stats | stop | kill)
            mapfile -t COMPREPLY < <(compgen -W "$(_layerfs_run_containers)" -- "$current")
            ;;
        '')
            ((COMP_CWORD == 1)) &&
                mapfile -t COMPREPLY < <(compgen -W 'exec ps inspect stats stop kill doctor' -- "$current")
            ;;
    esac
}

complete -F _layerfs_run layerfs-run
