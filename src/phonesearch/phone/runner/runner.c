/* Times an ONNX model on the phone, as `timing/host_worker.py` does on the host: the same rounds
 * of the same stretches over inputs fed by name and a key/value cache that past and present share.
 *
 *   runner --lib libonnxruntime.so --model model.onnx --threads 4 [--cpus 4,5,6,7]
 *          --capacity 272 --warmup-rounds 2 --rounds 5 --max-seconds 300
 *          --stretch NEW:PAST:STEPS:REPEATS:SETTLING ... [--config KEY VALUE] ... [--dump FILE]
 *   runner --write-weights RECIPE FILE [--parts FOLDER] --max-seconds 300
 *
 * One JSON object a line on standard output: `start`, `warmup` and `samples` as rounds end, then
 * `end`. Only `"event": "end", "ok": true` means that all went well; any failure is an `end` with
 * `"ok": false`, the stage and the reason, and exit code 3. Past `--max-seconds` SIGALRM ends the
 * process.
 *
 * ONNX Runtime's table of functions only ever grows at its end, so its functions are called by
 * their place in it, which needs none of its headers. Compiled by `build.py` without an NDK. */

#include "output.h"
#include "values.h"
#include "weights.h"

/* ---- ONNX Runtime, by place in its table -------------------------------------------------- */

enum { API_VERSION = 14, LOG_ERRORS = 3, ARENA = 1, DEFAULT_MEMORY = 0 };
enum { FLOAT32 = 1, INT32 = 6, INT64 = 7, FLOAT16 = 10 }; /* ONNXTensorElementDataType */
typedef void *status;

static void *const *api;

#define CALL(place, result, ...) ((result(*)(__VA_ARGS__))api[place])
#define error_message CALL(2, const char *, status)
#define create_env CALL(3, status, int, const char *, void **)
#define disable_telemetry CALL(6, status, void *)
#define create_session CALL(7, status, void *, const char *, void *, void **)
#define run_session \
  CALL(9, status, void *, void *, char **, void **, size, char **, size, void **)
#define create_options CALL(10, status, void **)
#define set_intra_threads CALL(24, status, void *, int)
#define set_inter_threads CALL(25, status, void *, int)
#define input_count CALL(30, status, void *, size *)
#define output_count CALL(31, status, void *, size *)
#define input_type_info CALL(33, status, void *, size, void **)
#define output_type_info CALL(34, status, void *, size, void **)
#define input_name CALL(36, status, void *, size, void *, char **)
#define output_name CALL(37, status, void *, size, void *, char **)
#define tensor_over CALL(49, status, void *, void *, size, i64 *, size, int, void **)
#define tensor_data CALL(51, status, void *, void **)
#define as_tensor_info CALL(55, status, void *, void **)
#define element_type CALL(60, status, void *, i32 *)
#define dimensions_count CALL(61, status, void *, size *)
#define dimensions CALL(62, status, void *, i64 *, size)
#define element_count CALL(64, status, void *, size *)
#define tensor_info CALL(65, status, void *, void **)
#define cpu_memory_info CALL(69, status, int, int, void **)
#define default_allocator CALL(78, status, void **)
#define release_value CALL(96, void, void *)
#define release_type_info CALL(98, void, void *)
#define release_tensor_info CALL(99, void, void *)
#define add_config CALL(130, status, void *, const char *, const char *)

static void check(status failed, const char *stage) {
  if (failed) fail(stage, error_message(failed), 0);
}

/* ---- What was asked for ------------------------------------------------------------------- */

enum { MAX_STRETCHES = 64, MAX_CONFIGS = 32, MAX_VALUES = 4096, MAX_RANK = 8, MAX_CPUS = 1024 };
enum { WARMUP_STEPS = 4 };

struct stretch {
  i64 new_tokens, past_tokens, steps, repeats, settling_steps;
};

static const char *library_path, *model_path, *cpus, *dump_path;
static const char *recipe_path, *weights_path, *parts_folder = ".";
static const char *configs[MAX_CONFIGS][2];
static struct stretch stretches[MAX_STRETCHES];
static int num_configs, num_stretches;
static i64 num_threads, capacity, warmup_rounds, num_rounds, max_seconds;

static void read_stretch(const char *text) {
  if (num_stretches == MAX_STRETCHES) fail("arguments", "too many stretches", text);
  struct stretch *stretch = &stretches[num_stretches++];
  i64 *fields[] = {&stretch->new_tokens, &stretch->past_tokens, &stretch->steps, &stretch->repeats,
                   &stretch->settling_steps};
  const char *rest = text;
  for (int i = 0; i < 5; i++) {
    if (i && *rest++ != ':') fail("arguments", "not NEW:PAST:STEPS:REPEATS:SETTLING", text);
    *fields[i] = take_int(&rest, "arguments");
  }
  if (*rest) fail("arguments", "not NEW:PAST:STEPS:REPEATS:SETTLING", text);
  if (stretch->new_tokens < 1) fail("arguments", "a stretch needs new tokens", text);
}

static void read_arguments(int count, char **words) {
  const struct {
    const char *name;
    const char **text;
    i64 *number;
  } options[] = {
      {"--lib", &library_path, 0},      {"--model", &model_path, 0},
      {"--cpus", &cpus, 0},             {"--dump", &dump_path, 0},
      {"--parts", &parts_folder, 0},    {"--threads", 0, &num_threads},
      {"--capacity", 0, &capacity},     {"--warmup-rounds", 0, &warmup_rounds},
      {"--rounds", 0, &num_rounds},     {"--max-seconds", 0, &max_seconds},
  };
  enum { NUM_OPTIONS = sizeof options / sizeof *options };
  for (int i = 1; i < count; i++) {
    const char *word = words[i];
    int num_values = !strcmp(word, "--config") || !strcmp(word, "--write-weights") ? 2 : 1;
    if (i + num_values >= count) fail("arguments", "an option without its value", word);
    const char *value = words[i + 1];
    int known = 0;
    if (!strcmp(word, "--config")) {
      if (num_configs == MAX_CONFIGS) fail("arguments", "too many options", word);
      configs[num_configs][0] = value;
      configs[num_configs++][1] = words[i + 2];
    } else if (!strcmp(word, "--write-weights")) {
      recipe_path = value;
      weights_path = words[i + 2];
    } else if (!strcmp(word, "--stretch")) {
      read_stretch(value);
    } else {
      for (; known < NUM_OPTIONS && strcmp(options[known].name, word); known++) {
      }
      if (known == NUM_OPTIONS) fail("arguments", "unknown option", word);
      if (options[known].text) *options[known].text = value;
      else *options[known].number = to_int(value, "arguments");
    }
    i += num_values;
  }
  if (max_seconds < 1) fail("arguments", "--max-seconds must be at least 1", 0);
  if (recipe_path) return;
  if (!library_path || !model_path) fail("arguments", "--lib and --model are needed", 0);
  if (num_threads < 1) fail("arguments", "--threads must be at least 1", 0);
  if (!num_stretches) fail("arguments", "--stretch is needed", 0);
  for (int i = 0; i < num_stretches; i++) {
    const struct stretch *stretch = &stretches[i];
    if (stretch->past_tokens + stretch->steps * stretch->new_tokens > capacity)
      fail("arguments", "--capacity is too small for the longest stretch", 0);
  }
}

/* ---- The machine -------------------------------------------------------------------------- */

static u64 granted[MAX_CPUS / 64];

static int is_granted(int cpu) { return granted[cpu / 64] >> cpu % 64 & 1; }

/* Binds this thread, from which all others of the process inherit it. A core that the system
 * withholds is dropped without a word, so what was granted is held against what was asked. */
static void bind_to_cpus(void) {
  u64 asked[MAX_CPUS / 64];
  for (int i = 0; i < MAX_CPUS / 64; i++) asked[i] = granted[i] = 0;
  if (cpus) {
    const char *rest = cpus;
    do {
      i64 cpu = take_int(&rest, "arguments");
      if (cpu >= MAX_CPUS || (*rest && *rest != ',')) fail("arguments", "not a list of cores", cpus);
      asked[cpu / 64] |= 1UL << cpu % 64;
    } while (*rest && *++rest);
    if (sched_setaffinity(0, sizeof asked, asked)) fail("affinity", cpus, error_text());
  }
  if (sched_getaffinity(0, sizeof granted, granted) < 0) fail("affinity", "unknown", error_text());
  for (int i = 0; cpus && i < MAX_CPUS / 64; i++)
    if (asked[i] != granted[i]) fail("affinity", "not all of these cores were granted", cpus);
}

static void put_granted_cpus(void) {
  put_key("cpus_granted");
  put_char('[');
  for (int cpu = 0, first = 1; cpu < MAX_CPUS; cpu++) {
    if (!is_granted(cpu)) continue;
    if (!first) put(", ");
    put_int(cpu);
    first = 0;
  }
  put_char(']');
}

/* Writes the path of a file of one core. */
static void cpu_path(char *path, int cpu, const char *name) {
  const char *before = "/sys/devices/system/cpu/cpu";
  while (*before) *path++ = *before++;
  if (cpu > 9) *path++ = (char)('0' + cpu / 10);
  *path++ = (char)('0' + cpu % 10);
  while ((*path++ = *name++)) {
  }
}

/* Clocks of all cores in kHz; null for one that is off line or does not say. */
static void put_clocks(void) {
  char path[128], text[32];
  put_key("khz");
  put_char('[');
  for (int cpu = 0; cpu < 100; cpu++) {
    cpu_path(path, cpu, "");
    int folder = open(path, O_READ); /* not access(): the emulator of the tests does not map it */
    if (folder < 0) break;
    close(folder);
    if (cpu) put(", ");
    cpu_path(path, cpu, "/cpufreq/scaling_cur_freq");
    const char *rest = text;
    if (read_text(path, text, sizeof text) && *text >= '0' && *text <= '9')
      put_int(take_int(&rest, "clocks"));
    else put("null");
  }
  put_char(']');
}

/* Kilobytes behind a name of /proc/self/status, 0 where there is none. */
static i64 status_kb(const char *status_text, const char *name) {
  for (const char *line = status_text; *line; line++) {
    if (!strncmp(line, name, strlen(name))) {
      line += strlen(name);
      while (*line == ' ' || *line == '\t') line++;
      return take_int(&line, "memory");
    }
    while (*line && *line != '\n') line++;
    if (!*line) break;
  }
  return 0;
}

static void put_memory(void) {
  char text[8192];
  if (!read_text("/proc/self/status", text, sizeof text)) text[0] = 0;
  put_field("rss_kb", status_kb(text, "VmRSS:"));
  put_field("peak_kb", status_kb(text, "VmHWM:"));
}

/* ---- The model ---------------------------------------------------------------------------- */

enum kind { TOKENS, MASK, POSITIONS, SEQLENS, TOTAL, CACHE, ACTIVATION };

struct value {
  enum kind kind;
  i32 type;
  size rank;
  i64 dims[MAX_RANK];
  void *content; /* of all positions, or of the one number */
};

static void *session, *memory_info;
static size num_inputs, num_outputs, last_output;
static char *input_names[MAX_VALUES], *output_names[MAX_VALUES];
static struct value inputs[MAX_VALUES];
static void *input_tensors[MAX_VALUES], *output_tensors[MAX_VALUES];
static int is_result[MAX_VALUES]; /* an output that is no cache */
static i64 cache_bytes;
static i32 length_of_all, newest_position;

static int starts_with(const char *text, const char *start) {
  return !strncmp(text, start, strlen(start));
}

static void load(const char **version, i64 *load_ns) {
  /* Before it is loaded, or it leaves a file in $TMPDIR and a database in $HOME on the phone:
   * DisableTelemetryEvents below comes too late for those. */
  setenv("ORT_DISABLE_TELEMETRY", "1", 1);
  void *library = dlopen(library_path, LOAD_NOW);
  if (!library) fail("library", dlerror(), 0);
  struct base {
    void *const *(*get_api)(u32 version);
    const char *(*version)(void);
  };
  const struct base *(*get_base)(void) = (const struct base *(*)(void))dlsym(library, "OrtGetApiBase");
  if (!get_base) fail("library", "is not ONNX Runtime (no OrtGetApiBase)", library_path);
  *version = get_base()->version();
  api = get_base()->get_api(API_VERSION);
  if (!api) fail("library", "is too old, it does not know API 14", *version);

  void *environment, *options;
  check(create_env(LOG_ERRORS, "phonesearch", &environment), "library");
  check(disable_telemetry(environment), "library");
  check(create_options(&options), "session");
  check(set_intra_threads(options, (int)num_threads), "session");
  check(set_inter_threads(options, 1), "session");
  for (int i = 0; i < num_configs; i++)
    check(add_config(options, configs[i][0], configs[i][1]), "session");
  i64 start = now_ns();
  check(create_session(environment, model_path, options, &session), "session");
  *load_ns = now_ns() - start;
  check(cpu_memory_info(ARENA, DEFAULT_MEMORY, &memory_info), "session");
}

static void describe(void *type_info, struct value *value, const char *name) {
  void *info = 0;
  check(as_tensor_info(type_info, &info), "inputs");
  if (!info) fail("inputs", "not a tensor", name);
  check(element_type(info, &value->type), "inputs");
  check(dimensions_count(info, &value->rank), "inputs");
  if (value->rank > MAX_RANK) fail("inputs", "too many dimensions", name);
  check(dimensions(info, value->dims, value->rank), "inputs");
  release_type_info(type_info);
}

static void *tensor(const struct value *value, void *content, size bytes) {
  void *made = 0;
  i64 *dims = (i64 *)value->dims;
  check(tensor_over(memory_info, content, bytes, dims, value->rank, value->type, &made), "inputs");
  return made;
}

static void fill_floats(struct value *value, u64 stream, u64 count) {
  if (value->type == FLOAT16) {
    __fp16 *halves = value->content = allocate(count * 2);
    for (u64 i = 0; i < count; i++) halves[i] = (__fp16)drawn_float(stream, i);
  } else {
    float *floats = value->content = allocate(count * 4);
    for (u64 i = 0; i < count; i++) floats[i] = drawn_float(stream, i);
  }
}

static void make_cache(size place, u64 number) {
  struct value *value = &inputs[place];
  int is_float = value->type == FLOAT32 || value->type == FLOAT16;
  if (!is_float || value->rank != 4 || value->dims[1] < 1 || value->dims[3] < 1)
    fail("inputs", "not a cache of (1, heads, length, width)", input_names[place]);
  value->kind = CACHE;
  value->dims[0] = 1;
  value->dims[2] = capacity;
  u64 count = (u64)(value->dims[1] * capacity * value->dims[3]);
  fill_floats(value, CACHE_STREAM + number, count);
  size bytes = count * (value->type == FLOAT16 ? 2 : 4);
  cache_bytes += (i64)bytes;
  input_tensors[place] = tensor(value, value->content, bytes);
}

static void make_numbers(struct value *value, u64 vocab_size) {
  i64 *numbers = value->content = allocate((size)capacity * 8);
  for (i64 i = 0; i < capacity; i++)
    numbers[i] = value->kind == TOKENS ? drawn_token((u64)i, vocab_size)
                 : value->kind == MASK ? 1
                                       : i;
}

static void make_inputs(u64 vocab_size) {
  static const struct {
    const char *name;
    enum kind kind;
    i32 type;
    size rank;
  } known[] = {
      {"input_ids", TOKENS, INT64, 2},       {"attention_mask", MASK, INT64, 2},
      {"position_ids", POSITIONS, INT64, 2}, {"seqlens_k", SEQLENS, INT32, 1},
      {"total_sequence_length", TOTAL, INT32, 0},
  };
  u64 num_caches = 0, num_activations = 0;
  for (size i = 0; i < num_inputs; i++) {
    struct value *value = &inputs[i];
    const char *name = input_names[i];
    if (starts_with(name, "past_key_values.")) {
      make_cache(i, num_caches++);
      continue;
    }
    size k = 0;
    while (k < sizeof known / sizeof *known && strcmp(known[k].name, name)) k++;
    if (k < sizeof known / sizeof *known) {
      if (value->type != known[k].type || value->rank != known[k].rank)
        fail("inputs", "is not of the type or rank that is fed", name);
      value->kind = known[k].kind;
      if (value->kind == TOKENS && !vocab_size) fail("inputs", "the vocabulary size is unknown", name);
      if (value->kind == SEQLENS) value->content = &newest_position;
      else if (value->kind == TOTAL) value->content = &length_of_all;
      else make_numbers(value, vocab_size);
    } else {
      if (value->type != FLOAT32 || value->rank != 3 || value->dims[2] < 1)
        fail("inputs", "nothing is known to feed it with", name);
      value->kind = ACTIVATION;
      fill_floats(value, ACTIVATION_STREAM + num_activations++, (u64)(capacity * value->dims[2]));
    }
  }
}

static void match_outputs(void) {
  int found = 0;
  for (size i = 0; i < num_outputs; i++) {
    is_result[i] = !starts_with(output_names[i], "present.");
    if (is_result[i]) {
      last_output = i;
      found = 1;
      continue;
    }
    const char *part = output_names[i] + strlen("present.");
    for (size k = 0; k < num_inputs; k++)
      if (inputs[k].kind == CACHE && !strcmp(input_names[k] + strlen("past_key_values."), part))
        output_tensors[i] = input_tensors[k];
    if (!output_tensors[i]) fail("inputs", "a cache that is given out but not taken", output_names[i]);
  }
  if (!found) fail("inputs", "the model has no output but caches", 0);
}

static void prepare(void) {
  void *allocator, *type_info;
  struct value first = {0};
  check(default_allocator(&allocator), "inputs");
  check(input_count(session, &num_inputs), "inputs");
  check(output_count(session, &num_outputs), "inputs");
  if (num_inputs > MAX_VALUES || num_outputs > MAX_VALUES) fail("inputs", "too many", 0);
  for (size i = 0; i < num_outputs; i++)
    check(output_name(session, i, allocator, &output_names[i]), "inputs");
  check(output_type_info(session, 0, &type_info), "inputs");
  describe(type_info, &first, output_names[0]);
  i64 vocab_size = first.rank ? first.dims[first.rank - 1] : 0;
  for (size i = 0; i < num_inputs; i++) {
    check(input_name(session, i, allocator, &input_names[i]), "inputs");
    check(input_type_info(session, i, &type_info), "inputs");
    describe(type_info, &inputs[i], input_names[i]);
  }
  make_inputs(vocab_size > 0 && vocab_size < 1L << 31 ? (u64)vocab_size : 0);
  match_outputs();
}

/* ---- Runs --------------------------------------------------------------------------------- */

static int outputs_finite = 1;
static i64 num_runs;

static void feed(size place, i64 new_tokens, i64 past_tokens) {
  struct value *value = &inputs[place];
  i64 total = past_tokens + new_tokens;
  u8 *content = value->content;
  size bytes = 4;
  if (value->kind == ACTIVATION) {
    i64 row = value->dims[2] * 4;
    value->dims[0] = 1;
    value->dims[1] = new_tokens;
    content += past_tokens * row;
    bytes = (size)(new_tokens * row);
  } else if (value->kind == SEQLENS) {
    value->dims[0] = 1;
  } else if (value->kind != TOTAL) {
    i64 length = value->kind == MASK ? total : new_tokens;
    value->dims[0] = 1;
    value->dims[1] = length;
    if (value->kind != MASK) content += past_tokens * 8;
    bytes = (size)length * 8;
  }
  input_tensors[place] = tensor(value, content, bytes);
}

static void *last_content(size *count, i32 *type) {
  void *info, *content;
  check(tensor_info(output_tensors[last_output], &info), "output");
  check(element_count(info, count), "output");
  check(element_type(info, type), "output");
  release_tensor_info(info);
  if (*type != FLOAT32 && *type != FLOAT16) fail("output", "is not float", output_names[last_output]);
  check(tensor_data(output_tensors[last_output], &content), "output");
  return content;
}

static int all_finite(void) {
  size count;
  i32 type;
  const void *content = last_content(&count, &type);
  int finite = 1;
  if (type == FLOAT16) {
    const unsigned short *bits = content;
    for (size i = 0; i < count; i++) finite &= (bits[i] & 0x7c00) != 0x7c00;
  } else {
    const u32 *bits = content;
    for (size i = 0; i < count; i++) finite &= (bits[i] & 0x7f800000) != 0x7f800000;
  }
  return finite;
}

/* Nanoseconds of one run over `new_tokens` behind `past_tokens` in the cache. */
static i64 timed_run(i64 new_tokens, i64 past_tokens) {
  length_of_all = (i32)(past_tokens + new_tokens);
  newest_position = length_of_all - 1;
  for (size i = 0; i < num_inputs; i++)
    if (inputs[i].kind != CACHE) feed(i, new_tokens, past_tokens);
  for (size i = 0; i < num_outputs; i++) {
    if (is_result[i] && output_tensors[i]) {
      release_value(output_tensors[i]);
      output_tensors[i] = 0;
    }
  }
  i64 start = now_ns();
  status failed = run_session(session, 0, input_names, input_tensors, num_inputs, output_names,
                              num_outputs, output_tensors);
  i64 elapsed = now_ns() - start;
  check(failed, "run");
  for (size i = 0; i < num_inputs; i++)
    if (inputs[i].kind != CACHE) release_value(input_tensors[i]);
  outputs_finite &= all_finite();
  num_runs++;
  return elapsed;
}

static void run_warmup(i64 round) {
  for (int s = 0; s < num_stretches; s++) {
    const struct stretch *stretch = &stretches[s];
    i64 steps = stretch->steps < WARMUP_STEPS ? stretch->steps : WARMUP_STEPS;
    for (i64 step = 0; step < steps; step++)
      timed_run(stretch->new_tokens, stretch->past_tokens + step * stretch->new_tokens);
  }
  put("{\"event\": \"warmup\"");
  put_field("round", round);
  put_char('}');
  end_line();
}

static void run_stretch(i64 round, int number) {
  const struct stretch *stretch = &stretches[number];
  i64 count = 0, *samples = allocate((size)(stretch->repeats * stretch->steps) * sizeof *samples);
  for (i64 i = 0; i < stretch->settling_steps; i++)
    timed_run(stretch->new_tokens, stretch->past_tokens);
  for (i64 repeat = 0; repeat < stretch->repeats; repeat++)
    for (i64 step = 0; step < stretch->steps; step++)
      samples[count++] =
          timed_run(stretch->new_tokens, stretch->past_tokens + step * stretch->new_tokens);
  int cpu = sched_getcpu();
  put("{\"event\": \"samples\"");
  put_field("round", round);
  put_field("stretch", number);
  put_field("cpu", cpu);
  put_clocks();
  put_memory();
  put_key("ns");
  put_char('[');
  for (i64 i = 0; i < count; i++) {
    if (i) put(", ");
    put_int(samples[i]);
  }
  put("]}");
  end_line();
}

static void dump(void) {
  size count;
  i32 type;
  const void *content = last_content(&count, &type);
  struct sink sink = {dump_path, open(dump_path, O_WRITE_NEW, 0644), 0};
  if (sink.file < 0) fail("dump", dump_path, error_text());
  if (type == FLOAT16) {
    const __fp16 *halves = content;
    for (size i = 0; i < count; i++) {
      float value = halves[i];
      append(&sink, &value, 4);
    }
  } else {
    append(&sink, content, count * 4);
  }
  if (close(sink.file)) drop(&sink, error_text());
}

static void put_start(const char *version, i64 load_ns) {
  put("{\"event\": \"start\", \"onnxruntime\": ");
  put_string(version);
  put_field("load_ns", load_ns);
  put_field("threads", num_threads);
  put_key("cpus_asked");
  if (cpus) put_string(cpus);
  else put("null");
  put_granted_cpus();
  put_field("hwcap", (i64)getauxval(AUX_HWCAP));
  put_field("hwcap2", (i64)getauxval(AUX_HWCAP2));
  put_field("page_bytes", (i64)getauxval(AUX_PAGE_BYTES));
  put_field("kv_bytes", cache_bytes);
  put_clocks();
  put_memory();
  put_char('}');
  end_line();
}

int main(int count, char **words) {
  const char *version;
  i64 load_ns;
  read_arguments(count, words);
  alarm((u32)max_seconds);
  if (recipe_path) {
    write_weights(recipe_path, weights_path, parts_folder);
    _exit(0);
  }
  bind_to_cpus();
  load(&version, &load_ns);
  prepare();
  put_start(version, load_ns);
  for (i64 round = 0; round < warmup_rounds; round++) run_warmup(round);
  for (i64 round = 0; round < num_rounds; round++)
    for (int s = 0; s < num_stretches; s++) run_stretch(round, s);
  if (dump_path && num_runs) dump();
  put("{\"event\": \"end\", \"ok\": true");
  put_key("finite");
  put(outputs_finite ? "true" : "false");
  put_field("runs", num_runs);
  put_memory();
  put_char('}');
  end_line();
  _exit(0);
}
