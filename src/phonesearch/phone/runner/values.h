/* The numbers that are fed. `phone/runner_values.py` makes the same, bit for bit. */

#ifndef PHONESEARCH_VALUES_H
#define PHONESEARCH_VALUES_H

#include "system.h"

enum {
  TOKEN_STREAM = 0,
  CACHE_STREAM = 1 << 16,     /* plus the number of the cache among the model's inputs */
  ACTIVATION_STREAM = 1 << 17 /* plus the number of the activation */
};

/* Number `index` of a stream: splitmix64 (Steele, Lea, Flood, 2014) seeded with the stream. */
static u64 drawn(u64 stream, u64 index) {
  u64 mixed = stream + (index + 1) * 0x9e3779b97f4a7c15UL;
  mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9UL;
  mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebUL;
  return mixed ^ mixed >> 31;
}

/* 0 to `vocab_size - 1`. */
static i64 drawn_token(u64 index, u64 vocab_size) {
  return (i64)((drawn(TOKEN_STREAM, index) >> 32) * vocab_size >> 32);
}

/* Near a standard normal: four uniform 16-bit numbers, summed, centred, scaled to a deviation of
 * one. One exact conversion and one rounded product, so no compiler can give other bits. */
static float drawn_float(u64 stream, u64 index) {
  u64 bits = drawn(stream, index);
  i32 sum = (i32)((bits & 65535) + (bits >> 16 & 65535) + (bits >> 32 & 65535) + (bits >> 48));
  return (float)(sum - 131070) * 0x1.bb67aep-16f; /* sqrt(3) / 65536 */
}

#endif
