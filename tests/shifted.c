/* A library to preload: the clock, and the times of files with it, are
   CSB_SHIFT seconds ahead (or behind, if that is negative). With
   CSB_SHIFT_FILES=0 the times of files are left alone.

   What is stored on the disk stays true, so that a program without this library
   sees nothing strange: times are shifted as they are read, and shifted back as
   they are set. Each function does what its manual page says, by the system
   call, which nothing else has shifted.  */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

static long shift(void)
{
  static long seconds, known;

  if (!known) {
    const char *word = getenv("CSB_SHIFT");
    seconds = word ? atol(word) : 0;
    known = 1;
  }
  return seconds;
}

/* The clock. */

int clock_gettime(clockid_t clock, struct timespec *now)
{
  int result = syscall(SYS_clock_gettime, clock, now);
  if (result == 0
      && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    now->tv_sec += shift();
  return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
  int result = syscall(SYS_gettimeofday, now, zone);
  if (result == 0)
    now->tv_sec += shift();
  return result;
}

time_t time(time_t *now)
{
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  if (now)
    *now = found.tv_sec;
  return found.tv_sec;
}

/* The times of files, read. Programs for large files call the second set. */

static long shift_of_files(void)
{
  const char *word = getenv("CSB_SHIFT_FILES");
  return word && !strcmp(word, "0") ? 0 : shift();
}

/* Python knows its compiled modules by the time of their source: with another
   time it would compile its whole library whenever it starts. */
static long shift_of(const char *path)
{
  return path && strstr(path, "/lib/python3") ? 0 : shift_of_files();
}

#define STAT(type, stat, lstat, fstat, fstatat) \
  int fstatat(int fd, const char *path, struct type *found, int flags) \
  { \
    int result = syscall(SYS_newfstatat, fd, path, found, flags); \
    if (result == 0) { \
      found->st_atim.tv_sec += shift_of(path); \
      found->st_mtim.tv_sec += shift_of(path); \
      found->st_ctim.tv_sec += shift_of(path); \
    } \
    return result; \
  } \
  int stat(const char *path, struct type *found) \
  { return fstatat(AT_FDCWD, path, found, 0); } \
  int lstat(const char *path, struct type *found) \
  { return fstatat(AT_FDCWD, path, found, AT_SYMLINK_NOFOLLOW); } \
  int fstat(int fd, struct type *found) \
  { return fstatat(fd, "", found, AT_EMPTY_PATH); }

STAT(stat, stat, lstat, fstat, fstatat)
STAT(stat64, stat64, lstat64, fstat64, fstatat64)

/* What a program calls that was linked with a C library before 2.33. */
int __xstat(int version, const char *path, struct stat *found)
{ (void) version; return stat(path, found); }

int __lxstat(int version, const char *path, struct stat *found)
{ (void) version; return lstat(path, found); }

int __fxstat(int version, int fd, struct stat *found)
{ (void) version; return fstat(fd, found); }

int statx(int fd, const char *path, int flags, unsigned mask,
          struct statx *found)
{
  int result = syscall(SYS_statx, fd, path, flags, mask, found);
  if (result == 0) {
    found->stx_atime.tv_sec += shift_of(path);
    found->stx_mtime.tv_sec += shift_of(path);
    found->stx_ctime.tv_sec += shift_of(path);
    found->stx_btime.tv_sec += shift_of(path);
  }
  return result;
}

/* The times of files, set. */

static int set(int fd, const char *path, const struct timespec times[2],
               int flags)
{
  struct timespec back[2];

  if (times == NULL)
    return syscall(SYS_utimensat, fd, path, NULL, flags);
  for (int i = 0; i < 2; i++) {
    back[i] = times[i];
    if (back[i].tv_nsec != UTIME_NOW && back[i].tv_nsec != UTIME_OMIT)
      back[i].tv_sec -= shift_of_files();
  }
  return syscall(SYS_utimensat, fd, path, back, flags);
}

static int set_micro(int fd, const char *path, const struct timeval times[2],
                     int flags)
{
  struct timespec nano[2];

  if (times == NULL)
    return set(fd, path, NULL, flags);
  for (int i = 0; i < 2; i++) {
    nano[i].tv_sec = times[i].tv_sec;
    nano[i].tv_nsec = times[i].tv_usec * 1000;
  }
  return set(fd, path, nano, flags);
}

int utimensat(int fd, const char *path, const struct timespec times[2],
              int flags)
{
  return set(fd, path, times, flags);
}

int futimens(int fd, const struct timespec times[2])
{
  return set(fd, NULL, times, 0);
}

int utimes(const char *path, const struct timeval times[2])
{
  return set_micro(AT_FDCWD, path, times, 0);
}

int lutimes(const char *path, const struct timeval times[2])
{
  return set_micro(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}

int futimes(int fd, const struct timeval times[2])
{
  return set_micro(fd, NULL, times, 0);
}

int utime(const char *path, const struct utimbuf *times)
{
  struct timeval micro[2] = {{0}};

  if (times == NULL)
    return set(AT_FDCWD, path, NULL, 0);
  micro[0].tv_sec = times->actime;
  micro[1].tv_sec = times->modtime;
  return set_micro(AT_FDCWD, path, micro, 0);
}
