/* Writes a model's data file from a recipe, so that a candidate's weights need not cross the
 * cable. `onnx_export/recipe.py` writes recipes and says what each line means. */

#ifndef PHONESEARCH_WEIGHTS_H
#define PHONESEARCH_WEIGHTS_H

#include "output.h"

enum { NAME_BYTES = 256, PATH_BYTES = 4096, MAX_PARTS = 64 };

struct part {
  char name[NAME_BYTES];
  const u8 *content;
  size length;
};

static struct part parts[MAX_PARTS];
static int num_parts;

struct sink {
  const char *path;
  int file;
  u64 written;
};

static void join(char *path, const char *folder, const char *name) {
  size length = 0;
  for (; *folder && length < PATH_BYTES - 2; folder++) path[length++] = *folder;
  path[length++] = '/';
  for (; *name && length < PATH_BYTES - 1; name++) path[length++] = *name;
  path[length] = 0;
}

static const struct part *find_part(const char *folder, const char *name) {
  for (int i = 0; i < num_parts; i++)
    if (!strcmp(parts[i].name, name)) return &parts[i];
  if (num_parts == MAX_PARTS) fail("recipe", "more parts than the runner can hold", name);
  struct part *part = &parts[num_parts++];
  memcpy(part->name, name, strlen(name) + 1);
  char path[PATH_BYTES];
  join(path, folder, name);
  int file = open(path, O_READ);
  if (file < 0) fail("parts", path, error_text());
  i64 length = lseek(file, 0, SEEK_TO_END);
  if (length <= 0) fail("parts", path, "is empty");
  void *content = mmap(0, (size)length, PROTECT_READ, MAP_PRIVATELY, file, 0);
  if (content == (void *)-1) fail("parts", path, error_text());
  close(file);
  part->content = content;
  part->length = (size)length;
  return part;
}

static void drop(struct sink *sink, const char *reason) __attribute__((noreturn));
static void drop(struct sink *sink, const char *reason) {
  close(sink->file);
  unlink(sink->path);
  fail("weights", sink->path, reason);
}

static void append(struct sink *sink, const void *content, size length) {
  const u8 *rest = content;
  while (length) {
    i64 written = write(sink->file, rest, length);
    if (written <= 0) drop(sink, written ? error_text() : "nothing could be written");
    rest += written;
    length -= (size)written;
    sink->written += (u64)written;
  }
}

/* `length` bytes of a part from `start` on, round and round. */
static void append_cycle(struct sink *sink, const struct part *part, size start, size length) {
  while (length) {
    size piece = part->length - start;
    if (piece > length) piece = length;
    append(sink, part->content + start, piece);
    length -= piece;
    start = 0;
  }
}

static float scratch[1 << 16];
enum { SCRATCH_FLOATS = 1 << 16 };

/* `count` floats of a part from the float `start` on, round and round, each changed to
 * (value + added) / divisor, rounded after each of the two as numpy does. */
static void append_scaled(struct sink *sink, const struct part *part, size start, size count,
                          float added, float divisor) {
  const float *values = (const float *)part->content;
  size available = part->length / 4;
  while (count) {
    size piece = count < SCRATCH_FLOATS ? count : SCRATCH_FLOATS;
    if (piece > available - start) piece = available - start;
    for (size i = 0; i < piece; i++) scratch[i] = (values[start + i] + added) / divisor;
    append(sink, scratch, piece * 4);
    count -= piece;
    start = start + piece == available ? 0 : start + piece;
  }
}

static void append_filled(struct sink *sink, float value, size count) {
  size most = count < SCRATCH_FLOATS ? count : SCRATCH_FLOATS;
  for (size i = 0; i < most; i++) scratch[i] = value;
  while (count) {
    size piece = count < most ? count : most;
    append(sink, scratch, piece * 4);
    count -= piece;
  }
}

static int take_word(const char **text, char *word) {
  size length = 0;
  while (**text == ' ') ++*text;
  while (**text && **text != ' ' && **text != '\n') {
    if (length == NAME_BYTES - 1) fail("recipe", "a word is too long", 0);
    word[length++] = *(*text)++;
  }
  word[length] = 0;
  return length > 0;
}

static size take_size(const char **text) {
  while (**text == ' ') ++*text;
  return (size)take_int(text, "recipe");
}

/* A float32 as the eight hexadecimal digits of its bits. */
static float take_float(const char **text) {
  char word[NAME_BYTES];
  union {
    u32 bits;
    float value;
  } number = {0};
  if (!take_word(text, word) || strlen(word) != 8) fail("recipe", "not eight hex digits", word);
  for (const char *digit = word; *digit; digit++) {
    u32 value = *digit >= '0' && *digit <= '9'   ? (u32)(*digit - '0')
                : *digit >= 'a' && *digit <= 'f' ? (u32)(*digit - 'a' + 10)
                                                 : 16;
    if (value == 16) fail("recipe", "not eight hex digits", word);
    number.bits = number.bits << 4 | value;
  }
  return number.value;
}

static void follow(const char *line, const char *folder, struct sink *sink) {
  char verb[NAME_BYTES], name[NAME_BYTES];
  if (!take_word(&line, verb) || verb[0] == '#') return;
  if (!strcmp(verb, "zero")) {
    size length = take_size(&line);
    append_filled(sink, 0, length / 4);
    append(sink, "\0\0\0", length % 4);
  } else if (!strcmp(verb, "fill")) {
    float value = take_float(&line);
    append_filled(sink, value, take_size(&line));
  } else if (!strcmp(verb, "file") && take_word(&line, name)) {
    const struct part *part = find_part(folder, name);
    append(sink, part->content, part->length);
  } else if (!strcmp(verb, "cycle") && take_word(&line, name)) {
    const struct part *part = find_part(folder, name);
    size start = take_size(&line), length = take_size(&line);
    if (start >= part->length) fail("recipe", "starts behind the part's end", name);
    append_cycle(sink, part, start, length);
  } else if (!strcmp(verb, "scale") && take_word(&line, name)) {
    const struct part *part = find_part(folder, name);
    size start = take_size(&line), count = take_size(&line);
    float added = take_float(&line), divisor = take_float(&line);
    if (start >= part->length / 4) fail("recipe", "starts behind the part's end", name);
    append_scaled(sink, part, start, count, added, divisor);
  } else {
    fail("recipe", "unknown line", verb);
  }
  while (*line == ' ') line++;
  if (*line && *line != '\n') fail("recipe", "too many words", verb);
}

/* Makes `target` whole or not at all, and waits until it is on the flash: pages still to be
 * written would slow whatever is timed next. */
static void write_weights(const char *recipe_path, const char *target, const char *folder) {
  i64 start = now_ns();
  int file = open(recipe_path, O_READ);
  if (file < 0) fail("recipe", recipe_path, error_text());
  i64 length = lseek(file, 0, SEEK_TO_END);
  if (length <= 0) fail("recipe", recipe_path, "is empty");
  close(file);
  char *recipe = allocate((size)length + 1);
  if (!read_text(recipe_path, recipe, (size)length + 1)) fail("recipe", recipe_path, "unreadable");
  if (recipe[length - 1] != '\n') fail("recipe", recipe_path, "is cut off");

  static char partial[PATH_BYTES];
  if (strlen(target) > PATH_BYTES - 8) fail("arguments", "the path is too long", target);
  memcpy(partial, target, strlen(target));
  memcpy(partial + strlen(target), ".part", 6);
  struct sink sink = {partial, open(partial, O_WRITE_NEW, 0644), 0};
  if (sink.file < 0) fail("weights", partial, error_text());
  for (const char *line = recipe; *line;) {
    follow(line, folder, &sink);
    while (*line && *line != '\n') line++;
    if (*line) line++;
  }
  if (fsync(sink.file) || close(sink.file)) drop(&sink, error_text());
  if (rename(partial, target)) drop(&sink, error_text());
  put("{\"event\": \"end\", \"ok\": true");
  put_field("bytes", (i64)sink.written);
  put_field("ns", now_ns() - start);
  put_char('}');
  end_line();
}

#endif
