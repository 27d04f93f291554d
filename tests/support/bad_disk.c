/* A disk that goes bad on demand: preloaded into a process, it stands between the process and its files and sockets.
 *
 * The environment names a control file (BAD_DISK) and a journal (BAD_DISK_LOG). Every call on a file whose path holds
 * the control file's `match`, and every call that sends on an internet socket, is numbered and written into the
 * journal. The control file is read again at each such call, so a test may change it at any time:
 *
 *   match=TEXT     which files (part of the path; with a $ at its end: how the path ends)
 *   calls=a,b      which calls count: write sync flush truncate rename link unlink send; empty: all
 *   nth=N          the fault begins at the Nth call that counts (from 1), 0: never
 *   times=N        how many calls it hits, 0: all from then on
 *   fault=WORD     kill-before, kill-after, delay, or the name of an error: EIO, ENOSPC, EINVAL
 *   ms=N           how long a delay is
 *   round=N        another number starts the count again from 1
 *
 * A journal line: number, nanoseconds of CLOCK_REALTIME, call, bytes, offset, errno of the result, path or "socket".
 * The number is that of the calls that count, 0 for one that does not.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
    char match[512], calls[128], fault[32];
    long nth, times, ms, round;
};

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static long counted, round_now;

#define REAL(name) ((typeof(&name))real(#name))

static void *real(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

static void word(const char *text, const char *key, char *into, size_t size) {
    size_t length = strlen(key);
    into[0] = 0;
    for (const char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : line)
        if (!strncmp(line, key, length) && line[length] == '=') {
            size_t end = strcspn(line + length + 1, "\n");
            snprintf(into, size, "%.*s", (int)end, line + length + 1);
            return;
        }
}

/* Straight system calls: what reads the control file must not be counted itself. */
static int read_control(struct control *c) {
    const char *path = getenv("BAD_DISK");
    char text[2048], number[32];
    if (!path) return 0;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    long size = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    if (size <= 0) return 0;
    text[size] = 0;
    word(text, "match", c->match, sizeof c->match);
    word(text, "calls", c->calls, sizeof c->calls);
    word(text, "fault", c->fault, sizeof c->fault);
    word(text, "nth", number, sizeof number), c->nth = atol(number);
    word(text, "times", number, sizeof number), c->times = atol(number);
    word(text, "ms", number, sizeof number), c->ms = atol(number);
    word(text, "round", number, sizeof number), c->round = atol(number);
    return 1;
}

static int is_listed(const char *calls, const char *call) {
    size_t length = strlen(call);
    if (!*calls) return 1;
    for (const char *p = calls; *p; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",") == length && !strncmp(p, call, length)) return 1;
    return 0;
}

static int is_watched(const char *path, const char *match) {
    size_t length = strlen(path), part = strlen(match);
    if (length > 4 && !strcmp(path + length - 4, "-shm")) return 0; /* memory that looks like a file */
    if (!part) return 0;
    if (match[part - 1] != '$') return strstr(path, match) != NULL;
    return length >= part - 1 && !strncmp(path + length - (part - 1), match, part - 1);
}

static int is_internet(int fd) {
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    return getsockname(fd, (struct sockaddr *)&name, &size) == 0 &&
           (name.ss_family == AF_INET || name.ss_family == AF_INET6);
}

static void note(long number, const char *call, long bytes, long offset, int error, const char *path) {
    const char *log = getenv("BAD_DISK_LOG");
    struct timespec now;
    char line[768];
    if (!log) return;
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return;
    clock_gettime(CLOCK_REALTIME, &now);
    int size = snprintf(line, sizeof line, "%ld %lld %s %ld %ld %d %s\n", number,
                        now.tv_sec * 1000000000LL + now.tv_nsec, call, bytes, offset, error, path);
    syscall(SYS_write, fd, line, (size_t)size);
    syscall(SYS_close, fd);
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

struct step {
    struct control control;
    long number;      /* of the calls that count; 0: this one does not */
    int is_noted, is_hit, error;
    char path[512];
};

/* What becomes of a call: 0, it is made; else errno of a call that is not made. */
static int before(struct step *s, const char *call, int fd, const char *path) {
    memset(s, 0, sizeof *s);
    if (!getenv("BAD_DISK")) return 0;
    if (path) {
        snprintf(s->path, sizeof s->path, "%s", path);
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        long size = syscall(SYS_readlinkat, AT_FDCWD, link, s->path, sizeof s->path - 1);
        s->path[size > 0 ? size : 0] = 0;
        if (!strncmp(s->path, "socket:", 7)) {
            if (!is_internet(fd)) return 0;
            strcpy(s->path, "socket");
            call = "send";
        } else if (s->path[0] != '/') {
            return 0;
        }
    }
    if (!read_control(&s->control)) return 0;
    if (strcmp(s->path, "socket") && !is_watched(s->path, s->control.match)) return 0;
    s->is_noted = 1;
    pthread_mutex_lock(&one_at_a_time);
    if (s->control.round != round_now) round_now = s->control.round, counted = 0;
    if (is_listed(s->control.calls, call)) s->number = ++counted;
    pthread_mutex_unlock(&one_at_a_time);
    const struct control *c = &s->control;
    s->is_hit = s->number && c->nth && s->number >= c->nth && (!c->times || s->number < c->nth + c->times);
    if (!s->is_hit) return 0;
    if (!strcmp(c->fault, "kill-before")) note(s->number, call, -1, -1, 0, s->path), die();
    if (!strcmp(c->fault, "delay")) {
        struct timespec pause_for = {c->ms / 1000, c->ms % 1000 * 1000000};
        nanosleep(&pause_for, NULL);
    }
    const char *names[] = {"EIO", "ENOSPC", "EINVAL"};
    int errors[] = {EIO, ENOSPC, EINVAL};
    for (int n = 0; n < 3; n++)
        if (!strcmp(c->fault, names[n])) s->error = errors[n];
    return s->error;
}

static void after(struct step *s, const char *call, long bytes, long offset, int error) {
    int kept = errno;
    if (s->is_noted) {
        note(s->number, strcmp(s->path, "socket") ? call : "send", bytes, offset, error, s->path);
        if (s->is_hit && !strcmp(s->control.fault, "kill-after")) die();
    }
    errno = kept;
}

#define GUARDED(type, call, fd, path, bytes, offset, made)              \
    struct step s;                                                      \
    int refused = before(&s, call, fd, path);                           \
    if (refused) errno = refused;                                       \
    type result = refused ? (type)-1 : (made);                          \
    after(&s, call, bytes, offset, result < 0 ? errno : 0);             \
    return result;

ssize_t write(int fd, const void *data, size_t size) {
    GUARDED(ssize_t, "write", fd, NULL, (long)size, -1, REAL(write)(fd, data, size))
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    GUARDED(ssize_t, "write", fd, NULL, -1, -1, REAL(writev)(fd, parts, count))
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    GUARDED(ssize_t, "write", fd, NULL, (long)size, (long)at, REAL(pwrite)(fd, data, size, at))
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    GUARDED(ssize_t, "write", fd, NULL, (long)size, (long)at, REAL(pwrite64)(fd, data, size, at))
}
ssize_t send(int fd, const void *data, size_t size, int flags) {
    GUARDED(ssize_t, "send", fd, NULL, (long)size, -1, REAL(send)(fd, data, size, flags))
}
ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length) {
    GUARDED(ssize_t, "send", fd, NULL, (long)size, -1, REAL(sendto)(fd, data, size, flags, to, length))
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    GUARDED(ssize_t, "send", fd, NULL, -1, -1, REAL(sendmsg)(fd, message, flags))
}
int fsync(int fd) { GUARDED(int, "sync", fd, NULL, 0, -1, REAL(fsync)(fd)) }
int fdatasync(int fd) { GUARDED(int, "sync", fd, NULL, 0, -1, REAL(fdatasync)(fd)) }
int sync_file_range(int fd, off64_t at, off64_t size, unsigned flags) {
    /* With any other flag it waits, and takes errors from the sync that follows. */
    const char *call = flags == SYNC_FILE_RANGE_WRITE ? "flush" : "sync";
    GUARDED(int, call, fd, NULL, (long)size, (long)at, REAL(sync_file_range)(fd, at, size, flags))
}
int ftruncate(int fd, off_t size) { GUARDED(int, "truncate", fd, NULL, 0, (long)size, REAL(ftruncate)(fd, size)) }
int ftruncate64(int fd, off64_t size) { GUARDED(int, "truncate", fd, NULL, 0, (long)size, REAL(ftruncate64)(fd, size)) }
int rename(const char *from, const char *to) { GUARDED(int, "rename", -1, to, 0, -1, REAL(rename)(from, to)) }
int link(const char *from, const char *to) { GUARDED(int, "link", -1, to, 0, -1, REAL(link)(from, to)) }
int unlink(const char *path) { GUARDED(int, "unlink", -1, path, 0, -1, REAL(unlink)(path)) }
