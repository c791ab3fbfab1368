/* JSON lines on standard output, without stdio; clock, memory and error ends. */

#ifndef PHONESEARCH_OUTPUT_H
#define PHONESEARCH_OUTPUT_H

#include "system.h"

static char output[1 << 16];
static size output_length;

static void flush(void) {
  size done = 0;
  while (done < output_length) {
    i64 written = write(1, output + done, output_length - done);
    if (written <= 0) _exit(4); /* nobody is listening any more */
    done += (size)written;
  }
  output_length = 0;
}

static void put_char(char letter) {
  if (output_length == sizeof output) flush();
  output[output_length++] = letter;
}

static void put(const char *text) {
  while (*text) put_char(*text++);
}

static void put_int(i64 number) {
  char digits[24];
  int count = 0;
  u64 rest = number < 0 ? 0 - (u64)number : (u64)number;
  do {
    digits[count++] = (char)('0' + rest % 10);
    rest /= 10;
  } while (rest);
  if (number < 0) put_char('-');
  while (count) put_char(digits[--count]);
}

static void put_string(const char *text) {
  put_char('"');
  for (; *text; text++) {
    u8 letter = (u8)*text;
    if (letter == '"' || letter == '\\') {
      put_char('\\');
      put_char((char)letter);
    } else if (letter < 32 || letter > 126) { /* bytes that are no ASCII go out as Latin-1 */
      put("\\u00");
      put_char("0123456789abcdef"[letter >> 4]);
      put_char("0123456789abcdef"[letter & 15]);
    } else {
      put_char((char)letter);
    }
  }
  put_char('"');
}

static void put_key(const char *key) { /* of any field but the first */
  put(", \"");
  put(key);
  put("\": ");
}

static void put_field(const char *key, i64 number) {
  put_key(key);
  put_int(number);
}

static void end_line(void) {
  put_char('\n');
  flush();
}

/* The one line of a failure, after which there is no other. */
static void fail(const char *stage, const char *message, const char *detail)
    __attribute__((noreturn));
static void fail(const char *stage, const char *message, const char *detail) {
  char text[4096];
  size length = 0;
  for (; *message && length < sizeof text - 3; message++) text[length++] = *message;
  if (detail) {
    text[length++] = ':';
    text[length++] = ' ';
    for (; *detail && length < sizeof text - 1; detail++) text[length++] = *detail;
  }
  text[length] = 0;
  output_length = 0; /* a line that was begun is dropped */
  put("{\"event\": \"end\", \"ok\": false, \"stage\": ");
  put_string(stage);
  put_key("error");
  put_string(text);
  put_char('}');
  end_line();
  _exit(3);
}

/* What the last failed call of the C library met, in its words. */
static const char *error_text(void) {
  int *(*place)(void) = (int *(*)(void))dlsym(0, "__errno");
  if (!place) place = (int *(*)(void))dlsym(0, "__errno_location");
  return place ? strerror(*place()) : "unknown error";
}

static i64 now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_STEADY, &now);
  return now.seconds * 1000000000L + now.nanoseconds;
}

static void *allocate(size length) {
  void *memory = 0;
  if (posix_memalign(&memory, 64, length ? length : 64) || !memory)
    fail("memory", "not enough memory for caches and inputs", 0);
  return memory;
}

/* Reads at most `length - 1` bytes of a small file, as a string; 0 where it cannot be read. */
static int read_text(const char *path, char *text, size length) {
  int file = open(path, O_READ);
  if (file < 0) return 0;
  size filled = 0;
  for (;;) {
    i64 got = read(file, text + filled, length - 1 - filled);
    if (got <= 0) break;
    filled += (size)got;
  }
  close(file);
  text[filled] = 0;
  return filled > 0;
}

/* A whole number in `*text`, which moves behind it. */
static i64 take_int(const char **text, const char *stage) {
  const char *start = *text;
  i64 number = 0;
  while (**text >= '0' && **text <= '9' && *text - start < 18) number = number * 10 + *(*text)++ - '0';
  if (*text == start) fail(stage, "not a whole number", start);
  return number;
}

static i64 to_int(const char *text, const char *stage) {
  const char *rest = text;
  i64 number = take_int(&rest, stage);
  if (*rest) fail(stage, "not a whole number", text);
  return number;
}

#endif
