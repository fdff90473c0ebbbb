/* A wall clock that a test can set, for a program that is started with this library preloaded: CLOCK_REALTIME is off by
 * as many nanoseconds as the file named by FAKE_CLOCK says (a 64-bit number, mapped: a change counts at once).
 *
 * The monotonic clock stays true, as it does when somebody sets a real clock. So does what the kernel makes of a wait
 * for a time of the wall clock: it goes on until the clock says that time, however far the clock is set back meanwhile.
 * That is what libfaketime does otherwise: it turns the time into a true one when the wait begins. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000LL

static const _Atomic int64_t *offset_ns;

__attribute__((constructor)) static void map_offset(void) {
    const char *path = getenv("FAKE_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *page = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *offset_ns, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) {
        perror("FAKE_CLOCK");
        abort();
    }
    close(file);
    offset_ns = page;
}

static int64_t true_ns(clockid_t id) {
    struct timespec at;
    /* Not through the C library: this is what it would call. */
    syscall(SYS_clock_gettime, id, &at);
    return at.tv_sec * SECOND_NS + at.tv_nsec;
}

static int64_t wall_ns(clockid_t id) {
    /* Constructors that run before ours may ask. */
    return true_ns(id) + (offset_ns ? *offset_ns : 0);
}

static struct timespec timespec_of(int64_t ns) {
    return (struct timespec){.tv_sec = ns / SECOND_NS, .tv_nsec = ns % SECOND_NS};
}

int clock_gettime(clockid_t id, struct timespec *at) {
    if (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)
        return (int)syscall(SYS_clock_gettime, id, at);
    *at = timespec_of(wall_ns(id));
    return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    int64_t us = wall_ns(CLOCK_REALTIME) / 1000;
    at->tv_sec = us / 1000000;
    at->tv_usec = us % 1000000;
    return 0;
}

time_t time(time_t *at) {
    time_t now = wall_ns(CLOCK_REALTIME) / SECOND_NS;
    if (at)
        *at = now;
    return now;
}

int timespec_get(struct timespec *at, int base) {
    *at = timespec_of(wall_ns(CLOCK_REALTIME));
    return base;
}

static int timed_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
    int64_t until_ns = until->tv_sec * SECOND_NS + until->tv_nsec;
    for (;;) {
        int64_t left_ns = until_ns - wall_ns(CLOCK_REALTIME);
        int64_t wake_ns = true_ns(CLOCK_MONOTONIC) + left_ns;
        struct timespec wake = timespec_of(wake_ns > 0 ? wake_ns : 0);
        int outcome = pthread_cond_clockwait(cond, mutex, CLOCK_MONOTONIC, &wake);
        if (outcome != ETIMEDOUT || wall_ns(CLOCK_REALTIME) >= until_ns)
            return outcome;
    }
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    return timed_wait(cond, mutex, until);
}

/* In glibc the types of C11 are those of POSIX. */
int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until) {
    int outcome = timed_wait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, until);
    return outcome == 0 ? thrd_success : outcome == ETIMEDOUT ? thrd_timedout : thrd_error;
}
