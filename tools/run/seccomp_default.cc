#include "tools/run/seccomp_default.h"

#include <linux/capability.h>

#include <array>

namespace layerfs::run {
namespace {

constexpr std::array kAllowed = {
    // files and directories
    AllowedCalls{
        -1,
        "access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 "
        "dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat "
        "fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr "
        "flock fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync "
        "ftruncate ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat "
        "inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lchown lchown32 "
        "lgetxattr link linkat listxattr listxattrat listmount llistxattr _llseek "
        "lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat "
        "name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 "
        "pwritev pwritev2 read readahead readlink readlinkat readv removexattr "
        "removexattrat rename renameat renameat2 rmdir sendfile sendfile64 setxattr "
        "setxattrat splice stat stat64 statfs statfs64 statmount statx symlink symlinkat "
        "sync sync_file_range sync_file_range2 syncfs tee truncate truncate64 umask unlink "
        "unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev "
        "file_getattr file_setattr"},
    // waiting, events, descriptors of the kernel
    AllowedCalls{-1,
                 "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 "
                 "epoll_wait epoll_wait_old eventfd eventfd2 io_cancel io_destroy io_getevents "
                 "io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl memfd_create "
                 "memfd_secret pause pidfd_open pidfd_send_signal pipe pipe2 poll ppoll "
                 "ppoll_time64 pselect6 pselect6_time64 select _newselect signalfd signalfd4 "
                 "timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime "
                 "timerfd_settime64 process_mrelease"},
    // memory
    AllowedCalls{-1,
                 "brk cachestat madvise map_shadow_stack membarrier mincore mlock mlock2 mlockall "
                 "mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc "
                 "pkey_free pkey_mprotect remap_file_pages"},
    // processes, threads, signals
    AllowedCalls{-1,
                 "alarm capget capset execve execveat exit exit_group fork futex futex_requeue "
                 "futex_time64 futex_wait futex_waitv futex_wake get_robust_list get_thread_area "
                 "getcpu getitimer getpgid getpgrp getpid getppid getpriority getrlimit getrusage "
                 "getsid gettid kill prctl prlimit64 restart_syscall rseq rt_sigaction "
                 "rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend "
                 "rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max "
                 "sched_get_priority_min sched_getaffinity sched_getattr sched_getparam "
                 "sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 "
                 "sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield "
                 "seccomp set_robust_list set_thread_area set_tid_address setitimer setpgid "
                 "setpriority setrlimit setsid sigaltstack sigprocmask sigreturn tgkill tkill "
                 "ugetrlimit uretprobe vfork wait4 waitid waitpid ioprio_get ioprio_set "
                 "process_vm_readv process_vm_writev ptrace landlock_add_rule "
                 "landlock_create_ruleset landlock_restrict_self lsm_get_self_attr "
                 "lsm_list_modules lsm_set_self_attr"},
    // identity
    AllowedCalls{-1,
                 "getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 "
                 "getresgid getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 "
                 "setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32 "
                 "setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32"},
    // time and the machine
    AllowedCalls{-1,
                 "adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 "
                 "clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 getrandom "
                 "gettimeofday nanosleep sysinfo time timer_create timer_delete timer_getoverrun "
                 "timer_gettime timer_gettime64 timer_settime timer_settime64 times uname"},
    // sockets and System V
    AllowedCalls{-1,
                 "accept accept4 bind connect getpeername getsockname getsockopt ipc listen "
                 "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 "
                 "mq_timedsend mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd recv "
                 "recvfrom recvmmsg recvmmsg_time64 recvmsg semctl semget semop semtimedop "
                 "semtimedop_time64 send sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt "
                 "shmget shutdown socketcall socketpair"},
    // of single architectures
    AllowedCalls{-1, "arch_prctl modify_ldt sync_file_range2 riscv_flush_icache riscv_hwprobe"},

    AllowedCalls{CAP_DAC_READ_SEARCH, "open_by_handle_at"},
    AllowedCalls{
        CAP_SYS_ADMIN,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount "
        "mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd "
        "setdomainname sethostname setns syslog umount umount2 unshare"},
    AllowedCalls{CAP_SYS_BOOT, "reboot"},
    AllowedCalls{CAP_SYS_CHROOT, "chroot"},
    AllowedCalls{CAP_SYS_MODULE, "delete_module init_module finit_module"},
    AllowedCalls{CAP_SYS_PACCT, "acct"},
    AllowedCalls{CAP_SYS_PTRACE, "kcmp pidfd_getfd process_madvise"},
    AllowedCalls{CAP_SYS_RAWIO, "iopl ioperm"},
    AllowedCalls{CAP_SYS_TIME, "settimeofday stime clock_settime clock_settime64"},
    AllowedCalls{CAP_SYS_TTY_CONFIG, "vhangup"},
    AllowedCalls{CAP_SYS_NICE, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
    AllowedCalls{CAP_SYSLOG, "syslog"},
    AllowedCalls{CAP_BPF, "bpf"},
    AllowedCalls{CAP_PERFMON, "perf_event_open"},
};

constexpr std::array<std::uint64_t, 5> kPersonalities = {0x0, 0x8, 0x20000, 0x20008, 0xffffffff};

}  // namespace

std::span<const AllowedCalls> default_allowed_calls() { return kAllowed; }
std::span<const std::uint64_t> allowed_personalities() { return kPersonalities; }

}  // namespace layerfs::run
