/* C interface of ptame: for C and for every language that can call C. Nothing is thrown; a call
 * that returns other than PTAME_OK leaves a sentence in ptame_last_error(), of its own thread. */
#ifndef PTAME_H
#define PTAME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  PTAME_OK = 0,
  PTAME_CHECK_FAILED = 1,
  PTAME_INVALID_INPUT = 2,
  PTAME_MISSING = 3,
  PTAME_CORRUPT = 4,
  PTAME_BUG = 70
} ptame_code;

typedef struct ptame_explainer ptame_explainer;
typedef struct ptame_result ptame_result;

/* Opens an artifact's folder; threads 0 for one a core, and for engines. Free with ptame_close. */
ptame_code ptame_open(const char* directory, int threads, ptame_explainer** explainer);
void ptame_close(ptame_explainer* explainer);

/* Explains one photo: a JPEG or PNG file, or width * height * 3 bytes of RGB. `classes` only for
 * graphs exported with --classes input, else NULL and 0. Free with ptame_free. */
ptame_code ptame_explain_file(ptame_explainer* explainer, const char* path, const int64_t* classes,
                              size_t count, ptame_result** result);
ptame_code ptame_explain_rgb(ptame_explainer* explainer, const uint8_t* rgb, int width, int height,
                             const int64_t* classes, size_t count, ptame_result** result);
void ptame_free(ptame_result* result);

/* Of a result; `rank` is 0 for the first class. What is out of range is 0, -1 or NULL. */
size_t ptame_class_count(const ptame_result* result);
int64_t ptame_class_index(const ptame_result* result, size_t rank);
const char* ptame_class_name(const ptame_result* result, size_t rank);
float ptame_probability(const ptame_result* result, size_t rank);
const float* ptame_saliency(const ptame_result* result, size_t rank, int* height, int* width);

/* Why the last call of this thread failed; "" where none did. */
const char* ptame_last_error(void);

#ifdef __cplusplus
}
#endif
#endif
