/* For LD_PRELOAD: every fsync and fdatasync takes SLOW_FSYNC_US microseconds longer. A slow disk that can be repeated. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void wait_a_little(void) {
    const char *us = getenv("SLOW_FSYNC_US");
    if (us != NULL) usleep((useconds_t)atoi(us));
}

int fsync(int file) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fsync");
    wait_a_little();
    return real(file);
}

int fdatasync(int file) {
    int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
    wait_a_little();
    return real(file);
}
