# bash completion for layerfs(1)

_layerfs() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command='' word choices=''
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $word in
            mount | umount | diff | commit | unpack | store | squash | convert | check | stats | which)
                command=$word
                break
                ;;
        esac
    done
    if [[ -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W 'mount umount diff commit unpack store squash convert check stats which --help --version' -- "$current")
        return
    fi
    # '=' breaks words: --io=cached arrives as --io, =, cached.
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $command:$previous in
        mount:--io) choices='auto passthrough cached' ;;
        *:--whiteout) choices='auto overlay oci' ;;
        mount:--xattr) choices='auto trusted user' ;;
        mount:--redirect | mount:--metacopy | mount:--index) choices='on off' ;;
        mount:--override-stat) choices='auto on off security' ;;
        *:--override-stat) choices='auto on off' ;;
        commit:--compression) choices='gzip zstd none' ;;
        *:--progress) choices='bar plain json none' ;;
        mount:--log-level) choices='error warn info debug trace' ;;
        mount:--init | mount:--layers | *:--work | *:--lower)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            return
            ;;
        mount:--log-file | commit:-o | commit:--output | commit:--oci | commit:--oci-archive | \
            commit:--docker-archive)
            compopt -o filenames
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            return
            ;;
        unpack:--name | unpack:--limit | commit:--empty | commit:--base | commit:--author | commit:-m | commit:--message | commit:-c | commit:--change | \
            *:--timeout | *:--threads | *:--timestamp | mount:--squash-to-uid | mount:--squash-to-gid | \
            mount:--uidmapping | mount:--gidmapping | mount:--fsname | mount:-o | mount:--options)
            return
            ;;
    esac
    if [[ -n $choices ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
        return
    fi
    if [[ $current == -* ]]; then
        case $command in
            mount)
                choices='--layers --init --work --read-only --volatile --whiteout --xattr --redirect --metacopy
                    --index --acl --no-acl --static-nlink --override-stat --squash-to-root
                    --squash-to-uid --squash-to-gid --uidmapping --gidmapping --allow-other
                    --no-allow-other --io --threads --timeout --foreground --log-level --log-file
                    --fsname --options --help'
                ;;
            umount) choices='--lazy --timeout --help' ;;
            diff) choices='--lower --work --all --stat --json --help' ;;
            commit)
                choices='--lower --work --empty --squash --strict --output --oci --oci-archive --docker-archive
                    --base --author --message --change --compression --threads
                    --timestamp --whole-seconds --explicit-whiteouts --progress --json --help'
                ;;
            unpack)
                choices='--name --threads --json --progress --whiteout --override-stat --limit --strict
                    --volatile --help'
                ;;
            store) choices='--dry-run --json --help' ;;
            squash) choices='--work --whiteout --override-stat --strict --json --progress --help' ;;
            convert) choices='--whiteout --json --help' ;;
            check) choices='--lower --work --repair --json --help' ;;
            stats) choices='--json --watch --help' ;;
            which) choices='--json --help' ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
        return
    fi
    compopt -o filenames
    case $command in
        store)
            mapfile -t COMPREPLY < <(compgen -W 'ls du rm gc' -- "$current"; compgen -d -- "$current")
            ;;
        unpack)
            mapfile -t COMPREPLY < <(compgen -W 'oci: oci-archive: docker-archive:' -- "$current"; compgen -f -- "$current")
            ;;
        mount | diff | commit | squash | convert | check) mapfile -t COMPREPLY < <(compgen -d -- "$current") ;;
        umount | stats)
            mapfile -t COMPREPLY < <(compgen -W "$(awk '$3 == "fuse.layerfs" { print $2 }' /proc/mounts)" -- "$current")
            ;;
        which) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
    esac
}

complete -F _layerfs layerfs
