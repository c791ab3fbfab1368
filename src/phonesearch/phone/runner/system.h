/* What the runner needs of the C library, declared by hand: the same on Android's (bionic, from
 * Android 5) and on glibc, both 64-bit. There is no NDK whose headers could be read, and errno is
 * looked up by name (`error_text`), as it is the one thing the two name differently. */

#ifndef PHONESEARCH_SYSTEM_H
#define PHONESEARCH_SYSTEM_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long u64;
typedef long i64;
typedef unsigned long size;

struct timespec {
  i64 seconds;
  i64 nanoseconds;
};

enum {
  O_READ = 0,
  O_WRITE_NEW = 01 | 0100 | 01000, /* O_WRONLY | O_CREAT | O_TRUNC */
  SEEK_TO_END = 2,
  PROTECT_READ = 1,
  MAP_PRIVATELY = 2,
  CLOCK_STEADY = 1, /* CLOCK_MONOTONIC */
  AUX_PAGE_BYTES = 6,
  AUX_HWCAP = 16,
  AUX_HWCAP2 = 26,
  LOAD_NOW = 2 /* RTLD_NOW */
};

void *memcpy(void *to, const void *from, size length);
void *memset(void *to, int value, size length);
u32 alarm(u32 seconds);
int clock_gettime(int clock, struct timespec *now);
int close(int file);
void _exit(int code) __attribute__((noreturn));
int fsync(int file);
u64 getauxval(u64 kind);
i64 lseek(int file, i64 offset, int from);
void *mmap(void *address, size length, int protection, int flags, int file, i64 offset);
int open(const char *path, int flags, ...);
int posix_memalign(void **memory, size alignment, size length);
i64 read(int file, void *content, size length);
int rename(const char *from, const char *to);
int sched_getaffinity(int process, size length, void *mask);
int sched_getcpu(void);
int sched_setaffinity(int process, size length, const void *mask);
int setenv(const char *name, const char *value, int overwrite);
int strcmp(const char *a, const char *b);
char *strerror(int code);
size strlen(const char *text);
int strncmp(const char *a, const char *b, size length);
int unlink(const char *path);
i64 write(int file, const void *content, size length);

void *dlopen(const char *path, int flags);
void *dlsym(void *library, const char *name);
char *dlerror(void);

#endif
