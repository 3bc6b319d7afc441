// LD_PRELOAD library that writes down what a process does to the files below $RECORD_ROOT, in the order of execution, to
// the journal $RECORD_JOURNAL (which lies elsewhere). crash_images.py makes from it what a disk may hold after a crash.
//
// A record is appended before the call that it describes returns to its caller, so whoever is told of the outcome finds
// the record in the journal. Calls that change something hold one lock around the real call and the record: the journal's
// order is the order of the effects. A sync does not hold it while it waits; it notes where the journal ended when it
// began, and only what stands before that place is durable when it returns.
//
// Files are named by inode number; a creation begins a new file under that number. Reads, mmap and locks are not
// recorded: who writes through mmap is not recorded (LMDB maps for reading, and its lock file holds nothing of worth).
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind { CREATE = 1, WRITE, ZEROS, RESIZE, EXTEND, RENAME, UNLINK, MKDIR, RMDIR, SYNC };

// Little-endian, packed: `bytes` of it all, then the two paths, then the data.
struct record {
  uint32_t bytes;
  uint8_t kind;
  uint8_t durable;  // written through O_DSYNC or O_SYNC
  uint16_t path, other_path;
  uint16_t reserved;
  uint32_t inode_high, inode_low;
  uint64_t offset, length;
  uint64_t nanoseconds;  // CLOCK_MONOTONIC
} __attribute__((packed));

enum { MAX_DESCRIPTORS = 65536, ZERO_RUN = 4096, MAX_PATH = 4096 };

static char root[MAX_PATH];
static size_t root_length;
static int journal = -1;
static uint64_t journal_bytes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
// 0: not ours, 1: below the root, 2: and every write of it is durable at its return.
static uint8_t tracked[MAX_DESCRIPTORS];

#define REAL(name) real_##name
#define DECLARE(type, name, ...) static type (*REAL(name))(__VA_ARGS__)
DECLARE(int, open, const char *, int, ...);
DECLARE(int, openat, int, const char *, int, ...);
DECLARE(int, close, int);
DECLARE(ssize_t, write, int, const void *, size_t);
DECLARE(ssize_t, writev, int, const struct iovec *, int);
DECLARE(ssize_t, pwrite, int, const void *, size_t, off_t);
DECLARE(ssize_t, pwritev, int, const struct iovec *, int, off_t);
DECLARE(ssize_t, pwritev2, int, const struct iovec *, int, off_t, int);
DECLARE(int, ftruncate, int, off_t);
DECLARE(int, truncate, const char *, off_t);
DECLARE(int, fallocate, int, int, off_t, off_t);
DECLARE(int, posix_fallocate, int, off_t, off_t);
DECLARE(int, rename, const char *, const char *);
DECLARE(int, renameat, int, const char *, int, const char *);
DECLARE(int, unlink, const char *);
DECLARE(int, unlinkat, int, const char *, int);
DECLARE(int, mkdir, const char *, mode_t);
DECLARE(int, mkdirat, int, const char *, mode_t);
DECLARE(int, rmdir, const char *);
DECLARE(int, fsync, int);
DECLARE(int, fdatasync, int);

static void die(const char *what) {
  dprintf(2, "record_disk: %s: %s\n", what, strerror(errno));
  _exit(97);
}

static void *real(const char *name) {
  void *found = dlsym(RTLD_NEXT, name);
  if (!found) die(name);
  return found;
}

__attribute__((constructor)) static void start(void) {
  if (REAL(open)) return;
#define FIND(name) REAL(name) = real(#name)
  FIND(open); FIND(openat); FIND(close); FIND(write); FIND(writev); FIND(pwrite); FIND(pwritev); FIND(pwritev2);
  FIND(ftruncate); FIND(truncate); FIND(fallocate); FIND(posix_fallocate); FIND(rename); FIND(renameat); FIND(unlink);
  FIND(unlinkat); FIND(mkdir); FIND(mkdirat); FIND(rmdir); FIND(fsync); FIND(fdatasync);
  const char *below = getenv("RECORD_ROOT"), *to = getenv("RECORD_JOURNAL");
  if (!below || !to) return;
  if (strlen(below) >= sizeof root) die("RECORD_ROOT is too long");
  strcpy(root, below);
  root_length = strlen(root);
  journal = REAL(open)(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (journal < 0) die(to);
  journal_bytes = (uint64_t)lseek(journal, 0, SEEK_END);
}

// The path relative to the root, or NULL when it is not below it.
static const char *below_root(const char *path) {
  if (journal < 0 || !path || strncmp(path, root, root_length) != 0) return NULL;
  if (path[root_length] == 0) return path + root_length;
  return path[root_length] == '/' ? path + root_length + 1 : NULL;
}

static int is_tracked(int descriptor) {
  return descriptor >= 0 && descriptor < MAX_DESCRIPTORS && tracked[descriptor];
}

static uint64_t inode_of(int descriptor) {
  struct stat status;
  if (fstat(descriptor, &status) != 0) die("fstat");
  return status.st_ino;
}

// Appends a record; the lock is held.
static void note(enum kind kind, uint64_t inode, int durable, uint64_t offset, uint64_t length, const char *path,
                 const char *other, const void *data, size_t bytes) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  size_t first = path ? strlen(path) : 0, second = other ? strlen(other) : 0;
  struct record record = {
      .bytes = (uint32_t)(sizeof record + first + second + bytes), .kind = (uint8_t)kind, .durable = (uint8_t)durable,
      .path = (uint16_t)first, .other_path = (uint16_t)second, .inode_high = (uint32_t)(inode >> 32),
      .inode_low = (uint32_t)inode, .offset = offset, .length = length,
      .nanoseconds = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec};
  struct iovec parts[4] = {{&record, sizeof record}, {(void *)path, first}, {(void *)other, second}, {(void *)data, bytes}};
  if (REAL(writev)(journal, parts, 4) != (ssize_t)record.bytes) die("journal");
  journal_bytes += record.bytes;
}

static int is_zero(const char *data, size_t bytes) {
  return bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0);
}

// A write, as pieces: runs of zeros go without their bytes. Each piece may survive or be lost by itself, as sectors may.
static void note_write(int descriptor, const char *data, size_t bytes, uint64_t offset) {
  uint64_t inode = inode_of(descriptor);
  int durable = tracked[descriptor] == 2;
  size_t at = 0;
  while (at < bytes) {
    size_t end = at, step;
    int zero = -1;
    for (; end < bytes; end += step) {
      step = bytes - end < ZERO_RUN ? bytes - end : ZERO_RUN;
      int now = is_zero(data + end, step);
      if (zero >= 0 && now != zero) break;
      zero = now;
    }
    note(zero ? ZEROS : WRITE, inode, durable, offset + at, end - at, NULL, NULL, data + at, zero ? 0 : end - at);
    at = end;
  }
}

static void note_vector(int descriptor, const struct iovec *parts, int count, size_t bytes, uint64_t offset) {
  for (int index = 0; index < count && bytes > 0; index++) {
    size_t taken = parts[index].iov_len < bytes ? parts[index].iov_len : bytes;
    note_write(descriptor, parts[index].iov_base, taken, offset);
    offset += taken;
    bytes -= taken;
  }
}

// Opening and closing

static int track_open(int directory, const char *path, int flags, mode_t mode) {
  start();  // another library's constructor may come before ours
  const char *name = directory == AT_FDCWD ? below_root(path) : NULL;
  if (!name) return REAL(openat)(directory, path, flags, mode);
  pthread_mutex_lock(&lock);
  struct stat status;
  int existed = lstat(path, &status) == 0;
  int descriptor = REAL(openat)(directory, path, flags, mode);
  int saved = errno;
  if (descriptor >= MAX_DESCRIPTORS) die("a descriptor beyond the table");
  if (descriptor >= 0) {
    tracked[descriptor] = flags & (O_DSYNC | O_SYNC) ? 2 : 1;
    if (!existed && flags & O_CREAT)
      note(CREATE, inode_of(descriptor), 0, 0, 0, name, NULL, NULL, 0);
    else if (flags & O_TRUNC && status.st_size > 0)
      note(RESIZE, inode_of(descriptor), 0, 0, 0, NULL, NULL, NULL, 0);
  }
  pthread_mutex_unlock(&lock);
  errno = saved;
  return descriptor;
}

#define OPENING(name)                                        \
  int name(const char *path, int flags, ...) {               \
    va_list rest;                                            \
    va_start(rest, flags);                                   \
    mode_t mode = va_arg(rest, mode_t);                      \
    va_end(rest);                                            \
    return track_open(AT_FDCWD, path, flags, mode);          \
  }
OPENING(open)
OPENING(open64)

#define OPENING_AT(name)                                     \
  int name(int directory, const char *path, int flags, ...) {\
    va_list rest;                                            \
    va_start(rest, flags);                                   \
    mode_t mode = va_arg(rest, mode_t);                      \
    va_end(rest);                                            \
    return track_open(directory, path, flags, mode);         \
  }
OPENING_AT(openat)
OPENING_AT(openat64)

int creat(const char *path, mode_t mode) { return track_open(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }
int __open_2(const char *path, int flags) { return track_open(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return track_open(AT_FDCWD, path, flags, 0); }

int close(int descriptor) {
  start();
  if (is_tracked(descriptor)) tracked[descriptor] = 0;
  return REAL(close)(descriptor);
}

// Writing

#define RECORDED(call, keep)               \
  do {                                     \
    pthread_mutex_lock(&lock);             \
    ssize_t done = (call);                 \
    int saved = errno;                     \
    if (done > 0) { keep; }                \
    pthread_mutex_unlock(&lock);           \
    errno = saved;                         \
    return done;                           \
  } while (0)

// Where a write without an offset went: it ends at the descriptor's position.
static uint64_t written_from(int descriptor, ssize_t done) { return (uint64_t)(lseek(descriptor, 0, SEEK_CUR) - done); }

ssize_t write(int descriptor, const void *data, size_t bytes) {
  start();
  if (!is_tracked(descriptor)) return REAL(write)(descriptor, data, bytes);
  RECORDED(REAL(write)(descriptor, data, bytes),
           note_write(descriptor, data, (size_t)done, written_from(descriptor, done)));
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
  if (!is_tracked(descriptor)) return REAL(writev)(descriptor, parts, count);
  RECORDED(REAL(writev)(descriptor, parts, count),
           note_vector(descriptor, parts, count, (size_t)done, written_from(descriptor, done)));
}

ssize_t pwrite(int descriptor, const void *data, size_t bytes, off_t offset) {
  if (!is_tracked(descriptor)) return REAL(pwrite)(descriptor, data, bytes, offset);
  RECORDED(REAL(pwrite)(descriptor, data, bytes, offset), note_write(descriptor, data, (size_t)done, (uint64_t)offset));
}
ssize_t pwrite64(int descriptor, const void *data, size_t bytes, off_t offset) {
  return pwrite(descriptor, data, bytes, offset);
}

ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
  if (!is_tracked(descriptor)) return REAL(pwritev)(descriptor, parts, count, offset);
  RECORDED(REAL(pwritev)(descriptor, parts, count, offset),
           note_vector(descriptor, parts, count, (size_t)done, (uint64_t)offset));
}
ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off_t offset) {
  return pwritev(descriptor, parts, count, offset);
}

ssize_t pwritev2(int descriptor, const struct iovec *parts, int count, off_t offset, int flags) {
  if (!is_tracked(descriptor)) return REAL(pwritev2)(descriptor, parts, count, offset, flags);
  if (offset == -1) {
    errno = ENOSYS;  // not used by anybody here; a recorder that guesses would be worse
    return -1;
  }
  RECORDED(REAL(pwritev2)(descriptor, parts, count, offset, flags),
           note_vector(descriptor, parts, count, (size_t)done, (uint64_t)offset));
}
ssize_t pwritev64v2(int descriptor, const struct iovec *parts, int count, off_t offset, int flags) {
  return pwritev2(descriptor, parts, count, offset, flags);
}

// Sizes

#define RECORDED_IF_ZERO(call, keep)       \
  do {                                     \
    pthread_mutex_lock(&lock);             \
    int result = (call);                   \
    int saved = errno;                     \
    if (result == 0) { keep; }             \
    pthread_mutex_unlock(&lock);           \
    errno = saved;                         \
    return result;                         \
  } while (0)

int ftruncate(int descriptor, off_t bytes) {
  if (!is_tracked(descriptor)) return REAL(ftruncate)(descriptor, bytes);
  RECORDED_IF_ZERO(REAL(ftruncate)(descriptor, bytes),
                   note(RESIZE, inode_of(descriptor), 0, 0, (uint64_t)bytes, NULL, NULL, NULL, 0));
}
int ftruncate64(int descriptor, off_t bytes) { return ftruncate(descriptor, bytes); }

int truncate(const char *path, off_t bytes) {
  if (!below_root(path)) return REAL(truncate)(path, bytes);
  struct stat status;
  RECORDED_IF_ZERO(REAL(truncate)(path, bytes), stat(path, &status);
                   note(RESIZE, status.st_ino, 0, 0, (uint64_t)bytes, NULL, NULL, NULL, 0));
}

int posix_fallocate(int descriptor, off_t offset, off_t bytes) {
  if (!is_tracked(descriptor)) return REAL(posix_fallocate)(descriptor, offset, bytes);
  RECORDED_IF_ZERO(REAL(posix_fallocate)(descriptor, offset, bytes),
                   note(EXTEND, inode_of(descriptor), 0, 0, (uint64_t)(offset + bytes), NULL, NULL, NULL, 0));
}
int posix_fallocate64(int descriptor, off_t offset, off_t bytes) { return posix_fallocate(descriptor, offset, bytes); }

int fallocate(int descriptor, int mode, off_t offset, off_t bytes) {
  if (!is_tracked(descriptor)) return REAL(fallocate)(descriptor, mode, offset, bytes);
  if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
    errno = EOPNOTSUPP;
    return -1;
  }
  RECORDED_IF_ZERO(
      REAL(fallocate)(descriptor, mode, offset, bytes),
      if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
        note(ZEROS, inode_of(descriptor), 0, (uint64_t)offset, (uint64_t)bytes, NULL, NULL, NULL, 0);
      else if (!(mode & FALLOC_FL_KEEP_SIZE))
        note(EXTEND, inode_of(descriptor), 0, 0, (uint64_t)(offset + bytes), NULL, NULL, NULL, 0));
}
int fallocate64(int descriptor, int mode, off_t offset, off_t bytes) { return fallocate(descriptor, mode, offset, bytes); }

// Names

int rename(const char *from, const char *to) {
  const char *old = below_root(from), *new = below_root(to);
  if (!old && !new) return REAL(rename)(from, to);
  if (!old || !new) die("a rename across the root");
  RECORDED_IF_ZERO(REAL(rename)(from, to), note(RENAME, 0, 0, 0, 0, old, new, NULL, 0));
}
int renameat(int from_directory, const char *from, int to_directory, const char *to) {
  if (from_directory == AT_FDCWD && to_directory == AT_FDCWD) return rename(from, to);
  return REAL(renameat)(from_directory, from, to_directory, to);
}
int renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned flags) {
  if (flags == 0) return renameat(from_directory, from, to_directory, to);
  errno = ENOSYS;
  return -1;
}

int unlink(const char *path) {
  const char *name = below_root(path);
  if (!name) return REAL(unlink)(path);
  RECORDED_IF_ZERO(REAL(unlink)(path), note(UNLINK, 0, 0, 0, 0, name, NULL, NULL, 0));
}

int rmdir(const char *path) {
  const char *name = below_root(path);
  if (!name) return REAL(rmdir)(path);
  RECORDED_IF_ZERO(REAL(rmdir)(path), note(RMDIR, 0, 0, 0, 0, name, NULL, NULL, 0));
}

int unlinkat(int directory, const char *path, int flags) {
  if (directory != AT_FDCWD) return REAL(unlinkat)(directory, path, flags);
  return flags & AT_REMOVEDIR ? rmdir(path) : unlink(path);
}

int mkdir(const char *path, mode_t mode) {
  const char *name = below_root(path);
  if (!name) return REAL(mkdir)(path, mode);
  struct stat status;
  RECORDED_IF_ZERO(REAL(mkdir)(path, mode), if (stat(path, &status) != 0) die(path);
                   note(MKDIR, status.st_ino, 0, 0, 0, name, NULL, NULL, 0));
}
int mkdirat(int directory, const char *path, mode_t mode) {
  return directory == AT_FDCWD ? mkdir(path, mode) : REAL(mkdirat)(directory, path, mode);
}

// Durability

static int synced(int descriptor, int (*sync)(int)) {
  if (!is_tracked(descriptor)) return sync(descriptor);
  pthread_mutex_lock(&lock);
  uint64_t begun = journal_bytes;
  pthread_mutex_unlock(&lock);
  int result = sync(descriptor), saved = errno;
  if (result == 0) {
    pthread_mutex_lock(&lock);
    note(SYNC, inode_of(descriptor), 0, begun, 0, NULL, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
  }
  errno = saved;
  return result;
}

int fsync(int descriptor) { return synced(descriptor, REAL(fsync)); }
int fdatasync(int descriptor) { return synced(descriptor, REAL(fdatasync)); }
