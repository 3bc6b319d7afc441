// LD_PRELOAD library to be loaded before libfaketime, which moves the deadlines of all timer descriptors by the offset of
// the wall clock, also of those on a monotonic clock. No kernel does that, and Dispatch's timers sleep for an hour then.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_DESCRIPTORS 65536
static unsigned char is_wall[MAX_DESCRIPTORS];

int timerfd_create(clockid_t clock, int flags) {
  int descriptor = (int)syscall(SYS_timerfd_create, clock, flags);
  if (descriptor >= 0 && descriptor < MAX_DESCRIPTORS)
    is_wall[descriptor] = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM;
  return descriptor;
}

int timerfd_settime(int descriptor, int flags, const struct itimerspec *new, struct itimerspec *old) {
  static int (*next)(int, int, const struct itimerspec *, struct itimerspec *);
  if (descriptor < 0 || descriptor >= MAX_DESCRIPTORS || !is_wall[descriptor])
    return (int)syscall(SYS_timerfd_settime, descriptor, flags, new, old);
  if (!next) next = (int (*)(int, int, const struct itimerspec *, struct itimerspec *))dlsym(RTLD_NEXT, "timerfd_settime");
  return next(descriptor, flags, new, old);
}
