# fish completion for layerfs-run(1)

set -l commands exec ps inspect stats stop kill doctor
complete -c layerfs-run -f
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -a exec -d 'run a command in a container'
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -a ps -d 'list the containers that run'
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -a inspect -d 'show what is known of a container'
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -a stats -d 'show what a container uses'
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -a stop -d 'ask a container to end'
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -a kill -d 'send a signal to a container'
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -a doctor -d 'tell what holds on this machine'
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -s l -l layers -x -a '(__fish_complete_directories)' -d "The read-only layers, the leftmost on top"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l image -r -F -a 'oci: oci-archive: docker-archive:' -d "An image as the root"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l store -x -a '(__fish_complete_directories)' -d "Where images are unpacked"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l upper -x -a '(__fish_complete_directories)' -d "Where changes go"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l read-only -d "Nothing below / can be changed"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -s v -l volume -r -F -d "Show a place of the host"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l tmpfs -x -d "An empty directory in memory"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l name -x -d "What the container is called"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -s e -l env -x -d "Set or hand on a variable"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l env-file -r -F -d "As --env, for each line"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l entrypoint -x -d "In place of the image's entrypoint and command"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -s w -l workdir -x -d "Where the command begins"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -s u -l user -x -d "Who the command runs as"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l hostname -x -d "The container's host name"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l ulimit -x -d "A resource limit"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -s t -l tty -d "Give the command a terminal of its own"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -s i -l interactive -d "For the users of docker"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -s d -l detach -d "Return once the command runs"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l log -r -F -d "Where a detached command's output goes"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l rm -d "Remove the log at the end"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l no-init -d "The command is process 1 itself"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l net -x -a 'none host pasta' -d "The network"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -s p -l publish -x -d "Hand on a port of the host"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l net-rate -x -d "The most bits a second, each way"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l share-user -d "Keep the caller's user namespace"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l share-pid -d "Keep the host's processes in sight"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l share-net -d "Keep the host's network"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l share-uts -d "Keep the host's name"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l share-ipc -d "Keep the host's IPC"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l share-cgroup -d "Keep the host's view of control groups"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l share-time -d "Keep the host's clocks"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l cap-add -x -d "One more capability"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l cap-drop -x -d "One fewer"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l seccomp -r -F -a 'default unconfined' -d "The system call filter"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l new-privs -d "Let set-id programs give privileges"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -s m -l memory -x -d "Memory of all processes"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l memory-swap -x -d "Memory and swap together"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l cpus -x -d "Processor time"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l cpu-shares -x -d "Weight against other groups"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l cpuset-cpus -x -d "Which processors"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l pids -x -d "The most processes and threads"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l io -x -d "Bandwidth of a block device"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l io-weight -x -d "Weight of the I/O"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l device-allow -r -F -d "A device of the host"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l cgroups -x -a 'strict best-effort' -d "Whether a limit may be left out"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -l status-fd -x -d "Write how it ended"
complete -c layerfs-run -n "not __fish_seen_subcommand_from $commands" -s V -l version -d 'Show the version'
complete -c layerfs-run -s h -l help -d 'Show help'
complete -c layerfs-run -n '__fish_seen_subcommand_from exec' -a '(layerfs-run ps 2>/dev/null | cut -f 1)'
complete -c layerfs-run -n '__fish_seen_subcommand_from exec' -s t -l tty -d "Give the command a terminal of its own"
complete -c layerfs-run -n '__fish_seen_subcommand_from exec' -s i -l interactive -d "For the users of docker"
complete -c layerfs-run -n '__fish_seen_subcommand_from exec' -s e -l env -x -d "One more variable"
complete -c layerfs-run -n '__fish_seen_subcommand_from exec' -s u -l user -x -d "Who the command runs as"
complete -c layerfs-run -n '__fish_seen_subcommand_from exec' -s w -l workdir -x -d "Where it begins"
complete -c layerfs-run -n '__fish_seen_subcommand_from ps' -l json -d "As JSON"
complete -c layerfs-run -n '__fish_seen_subcommand_from inspect' -a '(layerfs-run ps 2>/dev/null | cut -f 1)'
complete -c layerfs-run -n '__fish_seen_subcommand_from stats' -a '(layerfs-run ps 2>/dev/null | cut -f 1)'
complete -c layerfs-run -n '__fish_seen_subcommand_from stats' -l watch -x -d "Again and again"
complete -c layerfs-run -n '__fish_seen_subcommand_from stop' -a '(layerfs-run ps 2>/dev/null | cut -f 1)'
complete -c layerfs-run -n '__fish_seen_subcommand_from stop' -s t -l time -x -d "How long it has for that"
complete -c layerfs-run -n '__fish_seen_subcommand_from kill' -a '(layerfs-run ps 2>/dev/null | cut -f 1)'
complete -c layerfs-run -n '__fish_seen_subcommand_from kill' -s s -l signal -x -d "A name or a number"
