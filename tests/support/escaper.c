/* Programs that do not want to end, one a trick: escaper TRICK [SECONDS].
 *
 * Each leaves processes that a careless cancel would miss. All of them are this one file, so a test finds every survivor
 * by the path of its program, whatever it has done to its name, its environment, its parents and its descriptors. They
 * all end by themselves after SECONDS (60), should a test fail to end them.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char *self, *seconds = "60";
static time_t born;

static int old(void) { return time(NULL) - born > atoi(seconds); }

static void linger(void) {
    while (!old()) {
        struct timespec pause = {0, 50000000};
        nanosleep(&pause, NULL);
        while (waitpid(-1, NULL, WNOHANG) > 0) {}
    }
    _exit(0);
}

static void deaf(void) {
    for (int number = 1; number < 65; number++) signal(number, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
}

static void close_all(void) {
    for (int fd = 0; fd < 256; fd++) close(fd);
}

/* Fork, and go on in a child whose parent is gone. */
static void orphan(int new_session) {
    if (fork()) _exit(0);
    if (new_session) setsid();
    if (fork()) _exit(0);
}

static void again(char *trick, int keep_environment) {
    char *arguments[] = {self, trick, seconds, NULL}, *nothing[] = {NULL};
    if (keep_environment) execv(self, arguments);
    else execve(self, arguments, nothing);
    _exit(1);
}

static void spawn_on_term(int number) {
    (void)number;
    for (int i = 0; i < 3; i++)
        if (!fork()) { setsid(); deaf(); linger(); }
}

static void comet(int sessions) {
    // A generation in 0.2 ms: quicker than init reaps, the dead would fill the table of processes for everybody.
    struct timespec breath = {0, 200000};
    for (;;) {
        nanosleep(&breath, NULL);
        pid_t next = fork();
        if (next > 0) _exit(0);
        if (next < 0) { struct timespec pause = {0, 1000000}; nanosleep(&pause, NULL); continue; }
        if (sessions) setsid();
        if (old()) _exit(0);
    }
}

static void do_trick(const char *trick) {
    if (!strcmp(trick, "tree")) {
        for (int depth = 0; depth < 4; depth++) if (fork()) break;
    } else if (!strcmp(trick, "daemon")) {
        if (!fork()) { orphan(1); if (chdir("/")) {} close_all(); linger(); }
    } else if (!strcmp(trick, "deaf")) {
        deaf(); fork(); fork();
    } else if (!strcmp(trick, "holder")) {          /* ends at once; its child keeps stdout open */
        if (fork()) { printf("done\n"); fflush(stdout); _exit(0); }
        deaf();
    } else if (!strcmp(trick, "bomb")) {            /* at most 150 at a time, made anew as they die */
        deaf();
        for (int alive = 0; !old();) {
            if (alive < 150 && fork() == 0) { deaf(); linger(); }
            if (alive < 150) alive++;
            else usleep(1000);
            while (waitpid(-1, NULL, WNOHANG) > 0) alive--;
        }
    } else if (!strcmp(trick, "nohup")) {
        signal(SIGHUP, SIG_IGN);
        if (!fork()) { orphan(0); linger(); }
    } else if (!strcmp(trick, "hydra")) {           /* every signal makes three more */
        signal(SIGTERM, spawn_on_term);
        fork(); fork();
    } else if (!strcmp(trick, "renamed")) {
        if (!fork()) { setsid(); prctl(PR_SET_NAME, "kworker/u8:2"); linger(); }
        prctl(PR_SET_NAME, "sshd");
    } else if (!strcmp(trick, "closed")) {
        close_all(); fork();
    } else if (!strcmp(trick, "orphan")) {
        if (!fork()) { orphan(0); orphan(1); orphan(0); linger(); }
    } else if (!strcmp(trick, "stopped")) {
        for (int i = 0; i < 3; i++) if (!fork()) { if (i) setsid(); raise(SIGSTOP); linger(); }
        raise(SIGSTOP);
    } else if (!strcmp(trick, "traced")) {          /* a child in ptrace-stop, whose tracer ignores everything */
        pid_t traced = fork();
        if (!traced) { ptrace(PTRACE_TRACEME, 0, NULL, NULL); raise(SIGSTOP); linger(); }
        setsid(); deaf(); waitpid(traced, NULL, WUNTRACED);
        while (!old()) usleep(50000);
    } else if (!strcmp(trick, "reexec")) {
        usleep(5000); again("reexec", 1);
    } else if (!strcmp(trick, "scrubbed")) {
        if (!fork()) { orphan(1); again("idle", 0); }
    } else if (!strcmp(trick, "comet")) {
        if (!fork()) { deaf(); comet(0); }
    } else if (!strcmp(trick, "far-comet")) {
        if (!fork()) { deaf(); comet(1); }
    } else if (!strcmp(trick, "untagged")) {        /* knows how it is found, and takes off every mark */
        struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
        if (!fork()) { setrlimit(10, &none); orphan(1); deaf(); close_all(); again("idle", 0); }
    }
    linger();
}

int main(int count, char **arguments) {
    static char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (count < 2 || length < 0) return 2;
    self = path;
    if (count > 2) seconds = arguments[2];
    born = time(NULL);
    do_trick(arguments[1]);
    return 0;
}
