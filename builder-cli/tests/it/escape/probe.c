// Escape attempts that need a system call: `probe NAME` makes all of one kind, a line each.
//
// A line is `refused ERRNO what` or `ESCAPED what`; `escape.rs` says which refusals are right. An attempt that succeeds
// does as little as it can: what it opens it does not write.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void told(long result, const char *what) {
    if (result < 0)
        printf("refused %s %s\n", strerrorname_np(errno), what);
    else
        printf("ESCAPED %s\n", what);
}

static void opens(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
    told(fd, path);
    if (fd >= 0) close(fd);
}

// Whether a file system of this kind is there; a step without mounts has neither /proc nor /sys.
static int mounted(const char *path, long kind) {
    struct statfs there;
    if (statfs(path, &there) == 0 && there.f_type == kind) return 1;
    errno = ENOENT;
    told(-1, path);
    return 0;
}

static void proc_sys(void) {
    if (!mounted("/proc", 0x9fa0)) return;
    const char *paths[] = {
        "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hostname", "/proc/sys/kernel/sysrq", "/proc/sys/vm/drop_caches",
        "/proc/sys/vm/overcommit_memory", "/proc/sys/fs/suid_dumpable", "/proc/sys/kernel/ns_last_pid",
        "/proc/sys/net/ipv4/ip_forward", "/proc/irq/default_smp_affinity",
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (access(paths[i], F_OK) == 0) opens(paths[i], O_WRONLY);
}

static void sys(void) {
    if (!mounted("/sys", 0x62656572)) return;
    const char *paths[] = {
        "/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state",
        "/sys/class/net/lo/mtu", "/sys/kernel/profiling", "/sys/module/kernel/parameters/panic",
    };
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (access(paths[i], F_OK) == 0) opens(paths[i], O_WRONLY);
    told(mkdir("/sys/fs/cgroup/escape", 0755), "mkdir in /sys/fs/cgroup");
    told(mkdir("/sys/escape", 0755), "mkdir in /sys");
}

static void device(const char *place, const char *name, mode_t kind, unsigned major, unsigned minor) {
    char path[256], what[400];
    snprintf(path, sizeof path, "%s/escape-%s", place, name);
    snprintf(what, sizeof what, "%s (%u:%u) in %s", name, major, minor, place);
    if (mknod(path, kind | 0666, makedev(major, minor)) < 0) {
        told(-1, what);
        return;
    }
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    told(fd, what);
    if (fd >= 0) close(fd);
    unlink(path);
}

static void devices(void) {
    const char *places[] = {"/", "/dev", "/dev/shm", "/cache", "/scratch", "/other"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (access(places[i], F_OK) != 0) {
            printf("ESCAPED not: %s is missing\n", places[i]);
            continue;
        }
        device(places[i], "mem", S_IFCHR, 1, 1);
        device(places[i], "kmsg", S_IFCHR, 1, 11);
        device(places[i], "loop-control", S_IFCHR, 10, 237);
        FILE *disks = fopen("/proc/partitions", "r");
        char line[256];
        while (disks && fgets(line, sizeof line, disks)) {
            unsigned major, minor;
            char name[64];
            if (sscanf(line, "%u %u %*u %63s", &major, &minor, name) == 3)
                device(places[i], name, S_IFBLK, major, minor);
        }
        if (disks) fclose(disks);
    }
}

static void mounts(void) {
    mkdir("/m", 0755);
    told(mount("none", "/m", "tmpfs", 0, ""), "mount of a tmpfs");
    told(mount("none", "/m", "proc", 0, ""), "mount of a proc");
    told(mount("none", "/m", "sysfs", 0, ""), "mount of a sysfs");
    told(mount("none", "/m", "cgroup", 0, "rdma"), "mount of a cgroup hierarchy (release_agent)");
    told(mount("none", "/m", "cgroup2", 0, ""), "mount of cgroup2");
    told(mount("/", "/m", 0, MS_BIND, 0), "bind of /");
    told(mount(0, "/proc/sys", 0, MS_REMOUNT | MS_BIND, 0), "remount of /proc/sys");
    told(mount(0, "/sys", 0, MS_REMOUNT | MS_BIND, 0), "remount of /sys");
    told(mount(0, "/", 0, MS_SHARED | MS_REC, 0), "making / shared");
    told(umount2("/proc/sys", MNT_DETACH), "unmount of /proc/sys");
    told(umount2("/proc/kcore", MNT_DETACH), "unmount of /proc/kcore");
    told(umount2("/proc", MNT_DETACH), "unmount of /proc");
    told(syscall(SYS_fsopen, "tmpfs", 0), "fsopen");
    told(syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */), "open_tree");
    told(syscall(SYS_move_mount, AT_FDCWD, "/proc", AT_FDCWD, "/m", 0), "move_mount");
    struct { uint64_t set, clear, propagation, userns; } attr = {0, 1 /* RDONLY */, 0, 0};
    told(syscall(SYS_mount_setattr, AT_FDCWD, "/proc/sys", 0, &attr, sizeof attr), "mount_setattr");
    told(syscall(SYS_pivot_root, "/", "/"), "pivot_root");
}

static void first_process(void) {
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)environ, 1};
    told(ptrace(PTRACE_ATTACH, 1, 0, 0), "ptrace attach");
    told(ptrace(PTRACE_SEIZE, 1, 0, 0), "ptrace seize");
    told(process_vm_readv(1, &here, 1, &there, 1, 0), "process_vm_readv");
    told(process_vm_writev(1, &here, 1, &there, 1, 0), "process_vm_writev");
    told(syscall(SYS_kcmp, getpid(), 1, 0, 0, 0), "kcmp");
    int pid = syscall(SYS_pidfd_open, 1, 0);
    if (pid >= 0) told(syscall(SYS_pidfd_getfd, pid, 0, 0), "pidfd_getfd");
    opens("/proc/1/mem", O_RDONLY);
    opens("/proc/1/environ", O_RDONLY);
    opens("/proc/1/maps", O_RDONLY);
    opens("/proc/1/exe", O_RDONLY);
    opens("/proc/1/root", O_PATH);
    opens("/proc/1/cwd", O_PATH);
    opens("/proc/1/ns/mnt", O_RDONLY);
    char target[64];
    told(readlink("/proc/1/fd/1", target, sizeof target), "/proc/1/fd/1");
    told(readlink("/proc/1/cwd", target, sizeof target), "/proc/1/cwd");
    opens("/proc/1/fd/3", O_RDONLY);
}

static void keys(void) {
    told(syscall(SYS_keyctl, 0 /* GET_KEYRING_ID */, -3 /* session */, 0), "keyctl get");
    told(syscall(SYS_keyctl, 1 /* JOIN_SESSION_KEYRING */, 0), "keyctl join");
    told(syscall(SYS_add_key, "user", "escape", "x", 1, -3), "add_key");
    told(syscall(SYS_request_key, "user", "escape", 0, -3), "request_key");
}

static int child(void *unused) { (void)unused; _exit(0); }

static void namespaces(void) {
    static char stack[65536];
    const struct { int flag; const char *name; } kinds[] = {
        {CLONE_NEWUSER, "user"}, {CLONE_NEWNS, "mnt"}, {CLONE_NEWPID, "pid"}, {CLONE_NEWNET, "net"},
        {CLONE_NEWIPC, "ipc"}, {CLONE_NEWUTS, "uts"}, {CLONE_NEWCGROUP, "cgroup"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char what[64], path[64];
        snprintf(what, sizeof what, "unshare %s", kinds[i].name);
        told(unshare(kinds[i].flag), what);
        snprintf(what, sizeof what, "clone %s", kinds[i].name);
        told(clone(child, stack + sizeof stack, kinds[i].flag | SIGCHLD, 0), what);
        snprintf(path, sizeof path, "/proc/self/ns/%s", kinds[i].name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        snprintf(what, sizeof what, "setns %s", kinds[i].name);
        if (fd >= 0) told(setns(fd, kinds[i].flag), what);
    }
    uint64_t args[11] = {CLONE_NEWUSER};
    told(syscall(SYS_clone3, args, sizeof args), "clone3");
}

static void kernel(void) {
    char zero[256] = {0};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct timex adjust = {.modes = ADJ_FREQUENCY};
    told(syscall(SYS_bpf, 0, zero, sizeof zero), "bpf");
    told(syscall(SYS_perf_event_open, zero, 0, -1, -1, 0), "perf_event_open");
    told(syscall(SYS_userfaultfd, 0), "userfaultfd");
    told(syscall(SYS_open_by_handle_at, AT_FDCWD, zero, O_RDONLY), "open_by_handle_at");
    told(syscall(SYS_fanotify_init, 0, 0), "fanotify_init");
    told(syscall(SYS_io_uring_setup, 1, zero), "io_uring_setup");
    told(syscall(SYS_kexec_load, 0, 0, 0, 0), "kexec_load");
    told(syscall(SYS_kexec_file_load, -1, -1, 0, 0, 4), "kexec_file_load");
    told(syscall(SYS_init_module, zero, 0, ""), "init_module");
    told(syscall(SYS_finit_module, -1, "", 0), "finit_module");
    told(syscall(SYS_delete_module, "escape", O_NONBLOCK), "delete_module");
#ifdef SYS_iopl
    told(syscall(SYS_iopl, 3), "iopl");
    told(syscall(SYS_ioperm, 0x80, 1, 1), "ioperm");
#endif
    told(syscall(SYS_swapon, "/nothing", 0), "swapon");
    told(syscall(SYS_swapoff, "/nothing"), "swapoff");
    told(acct("/nothing"), "acct");
    told(syscall(SYS_quotactl, 0x800001, "/nothing", 0, 0), "quotactl");
    told(reboot(RB_DISABLE_CAD), "reboot");
    told(clock_settime(CLOCK_REALTIME, &now), "clock_settime");
    told(adjtimex(&adjust), "adjtimex");
    told(sethostname("escape", 6), "sethostname");
    told(setdomainname("escape", 6), "setdomainname");
    told(syscall(SYS_syslog, 3, zero, sizeof zero), "syslog");
    told(vhangup(), "vhangup");
}

static void terminal(void) {
    const char c = 'x';
    for (int fd = 0; fd < 3; fd++) told(ioctl(fd, TIOCSTI, &c), "TIOCSTI");
    opens("/dev/tty", O_RDWR);
    opens("/dev/console", O_RDWR);
    opens("/dev/tty0", O_RDWR);
}

// Descriptors 0 to 2 are a null device and two pipes or files; there is no other.
static void descriptors(void) {
    for (int fd = 3; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0) printf("ESCAPED %d is open\n", fd);
    printf("refused NONE beyond 2\n");
    DIR *list = opendir("/proc/self/fd");
    struct dirent *entry;
    while (list && (entry = readdir(list))) {
        char link[64], target[4096];
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(list)) continue;
        snprintf(link, sizeof link, "/proc/self/fd/%d", atoi(entry->d_name));
        ssize_t n = readlink(link, target, sizeof target - 1);
        target[n < 0 ? 0 : n] = 0;
        int number = atoi(entry->d_name);
        int fine = number == 0 ? !strcmp(target, "/dev/null")
                               : number < 3 && (!strncmp(target, "pipe:", 5) || !strncmp(target, "/out/", 5));
        printf(fine ? "refused NONE %d is %s\n" : "ESCAPED %d is %s\n", number, target);
    }
}

// The old way out of a chroot: leave a directory open, chroot below it, climb.
static void chroots(const char *host) {
    mkdir("/below", 0755);
    int here = open("/", O_RDONLY | O_DIRECTORY);
    if (chroot("/below") < 0 || fchdir(here) < 0) {
        told(-1, "chroot");
        return;
    }
    for (int i = 0; i < 100; i++)
        if (chdir("..") < 0) break;
    if (chroot(".") < 0) told(-1, "chroot up");
    told(access(host, F_OK), "the host's file after climbing");
    struct stat up, root;
    stat("/..", &up);
    stat("/", &root);
    errno = EXDEV;
    told(up.st_ino == root.st_ino && up.st_dev == root.st_dev ? -1 : 0, "above /");
}

static void abstract_socket(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    memcpy(address.sun_path + 1, name, length);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    told(connect(fd, (void *)&address, offsetof(struct sockaddr_un, sun_path) + 1 + length), "abstract socket");
}

// Its own program's file, which must be the image's, and must not be writable while it runs.
static void own_program(void) {
    if (!mounted("/proc", 0x9fa0)) return;
    char target[4096];
    ssize_t n = readlink("/proc/self/exe", target, sizeof target - 1);
    target[n < 0 ? 0 : n] = 0;
    errno = EXDEV;
    told(strcmp(target, "/probe") ? 0 : -1, target);
    int held = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    snprintf(target, sizeof target, "/proc/self/fd/%d", held);
    opens(target, O_WRONLY);
}

int main(int count, char **arguments) {
    const char *name = count > 1 ? arguments[1] : "";
    const char *with = count > 2 ? arguments[2] : "";
    setvbuf(stdout, 0, _IONBF, 0);
    if (!strcmp(name, "proc-sys")) proc_sys();
    else if (!strcmp(name, "sys")) sys();
    else if (!strcmp(name, "devices")) devices();
    else if (!strcmp(name, "mounts")) mounts();
    else if (!strcmp(name, "first-process")) first_process();
    else if (!strcmp(name, "keys")) keys();
    else if (!strcmp(name, "namespaces")) namespaces();
    else if (!strcmp(name, "kernel")) kernel();
    else if (!strcmp(name, "terminal")) terminal();
    else if (!strcmp(name, "descriptors")) descriptors();
    else if (!strcmp(name, "chroot")) chroots(with);
    else if (!strcmp(name, "abstract-socket")) abstract_socket(with);
    else if (!strcmp(name, "own-program")) own_program();
    else {
        printf("ESCAPED not: no probe %s\n", name);
        return 1;
    }
    return 0;
}
