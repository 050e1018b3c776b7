/* The header is C, and can be used as its first page says. */
#include "fuseline/serving_bridge/c_ranker.h"

double bucket_seen_from_c(const char* user_id, const char* salt);
double bucket_seen_from_c(const char* user_id, const char* salt) {
  fuseline_ranker_options options = {.config_file = NULL, .name = "c"};
  fuseline_ranker* ranker = NULL;
  fuseline_reader* reader = NULL;
  if (fuseline_ranker_abi() != FUSELINE_RANKER_ABI) return -2;
  if (fuseline_ranker_open(&options, &ranker) != FUSELINE_OK) return -3;
  if (fuseline_reader_open(ranker, &reader) != FUSELINE_OK) return -4;
  fuseline_reader_close(reader);
  fuseline_ranker_close(ranker);
  return fuseline_bucket(user_id, salt);
}
