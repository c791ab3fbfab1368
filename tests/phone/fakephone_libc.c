/* What the fake phone has for Android's libc.so: start code, and the parts of a phone that an
 * emulator on another machine lacks (cores, a disk of its own, faults). The rest is glibc's.
 * Faults and limits are read from files of the fake /sys, which tests change (fakephone_state). */

typedef unsigned long u64;
typedef long i64;

enum { OPEN_AT = 56, READ = 63, WRITE = 64, CLOSE = 57, INVALID = 22, NO_SPACE = 28 };

extern i64 syscall(i64 number, ...);
extern int *__errno_location(void);
extern void exit(int code);
extern int raise(int signal);
extern int pause(void);

static u64 bound = ~0UL;
static u64 written;

static int setting(const char *path, char *text, int length) {
  i64 file = syscall(OPEN_AT, -100, path, 0);
  if (file < 0) return 0;
  i64 got = syscall(READ, file, text, length - 1);
  syscall(CLOSE, file);
  text[got > 0 ? got : 0] = 0;
  return got > 0;
}

static i64 number(const char *path, i64 otherwise) {
  char text[32];
  if (!setting(path, text, sizeof text)) return otherwise;
  i64 value = 0;
  for (const char *digit = text; *digit >= '0' && *digit <= '9'; digit++)
    value = value * 10 + *digit - '0';
  return value;
}

static u64 allowed(void) { return (u64)number("/sys/fakephone/allowed_cpus", 255); }

void __libc_init(void *stack, void (*on_exit)(void), int (*main)(int, char **, char **),
                 const void *arrays) {
  i64 count = *(i64 *)stack;
  char **words = (char **)stack + 1;
  (void)on_exit, (void)arrays;
  exit(main((int)count, words, words + count + 1));
}

/* As Linux does it: cores outside the cpuset are dropped; an error only if none is left. */
int sched_setaffinity(int process, u64 length, const void *mask) {
  u64 granted = *(const u64 *)mask & allowed();
  (void)process, (void)length;
  if (!granted) {
    *__errno_location() = INVALID;
    return -1;
  }
  bound = granted;
  return 0;
}

int sched_getaffinity(int process, u64 length, void *mask) {
  (void)process;
  for (u64 i = 0; i < length / 8; i++) ((u64 *)mask)[i] = 0;
  *(u64 *)mask = bound & allowed();
  return 0;
}

/* Called by the runner after each stretch: where faults strike. 0 is none, 255 hangs, any other
 * number is a signal. */
int sched_getcpu(void) {
  i64 fault = number("/sys/fakephone/fault", 0);
  while (fault == 255) pause();
  if (fault) raise((int)fault);
  u64 cores = bound & allowed();
  int cpu = 63;
  while (cpu && !(cores >> cpu & 1)) cpu--;
  return cpu;
}

i64 write(int file, const void *content, u64 length) {
  if (file > 2) {
    written += length;
    if (written > (u64)number("/sys/fakephone/free_bytes", 1L << 50)) {
      *__errno_location() = NO_SPACE;
      return -1;
    }
  }
  return syscall(WRITE, file, content, length);
}
