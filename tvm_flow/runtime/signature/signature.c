#include "tvm_flow_signature.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ed25519.h"

#define SIGNATURE_DOMAIN "tvm-flow bundle signature"
enum { SCHEMA = 1 };

/* signature.bin, little endian; tvm_flow/pack/signature.py says what each field is. */
typedef struct {
  char domain[32];
  uint32_t schema;
  uint32_t signed_bytes;
  uint64_t version;
  char model[64];
  uint8_t steps[32], decoder[32], manifest[32];
  uint8_t key[32];
  uint8_t signature[64]; /* of all before it */
} signed_file;

_Static_assert(sizeof(signed_file) == 304, "layout of signature.bin");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "signature.bin is read in place");

enum { SIGNED_BYTES = offsetof(signed_file, signature) };

__attribute__((format(printf, 3, 4))) static tvm_flow_status refuse(tvm_flow_error *error, tvm_flow_status status,
                                                                    const char *format, ...) {
  if (error) {
    va_list args;
    va_start(args, format);
    error->status = status;
    vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
  }
  return status;
}

static tvm_flow_status check_trust(const tvm_flow_trust *trust, const tvm_flow_identity *identity,
                                   tvm_flow_error *error) {
  if (!trust || !identity || trust->struct_bytes != sizeof *trust || !trust->num_keys || !trust->keys)
    return refuse(error, TVM_FLOW_INVALID_ARGUMENT,
                  "trust: expected struct_bytes %zu, keys and an identity, got others; set options.accept_user to a "
                  "tvm_flow_trust", sizeof *trust);
  for (uint32_t i = 0; i < trust->num_keys; i++)
    if (tvm_flow_ed25519_is_weak(trust->keys[i]))
      return refuse(error, TVM_FLOW_INVALID_ARGUMENT,
                    "trust: key %u: expected a public key, got one that anybody can sign with; copy what tvm-flow sign "
                    "--new-key printed", i);
  return TVM_FLOW_OK;
}

/* Its length and first fields: what has to hold before others mean anything. */
static tvm_flow_status read_file(const tvm_flow_identity *identity, signed_file *out, tvm_flow_error *error) {
  static const char domain[sizeof out->domain] = SIGNATURE_DOMAIN;
  if (!identity->signature)
    return refuse(error, TVM_FLOW_NOT_SIGNED,
                  "signature.bin: expected a signature, got none that can be read; sign the bundle (tvm-flow sign), or "
                  "copy it again");
  if (identity->signature_bytes >= sizeof out->domain + sizeof out->schema &&
      memcmp(identity->signature, domain, sizeof domain) == 0) {
    memcpy(&out->schema, identity->signature + sizeof domain, sizeof out->schema);
    if (out->schema != SCHEMA)
      return refuse(error, TVM_FLOW_WRONG_SCHEMA,
                    "signature.bin: expected schema %d, got %u; sign with the tvm-flow that this runtime came from",
                    SCHEMA, out->schema);
  }
  if (identity->signature_bytes == sizeof *out) memcpy(out, identity->signature, sizeof *out);
  if (identity->signature_bytes != sizeof *out || memcmp(out->domain, domain, sizeof domain) != 0 ||
      out->signed_bytes != SIGNED_BYTES || !memchr(out->model, 0, sizeof out->model))
    return refuse(error, TVM_FLOW_BAD_SIGNATURE,
                  "signature.bin: expected %zu bytes of a signature, got %u others; copy the bundle again, or sign it",
                  sizeof *out, identity->signature_bytes);
  return TVM_FLOW_OK;
}

static tvm_flow_status check_signer(const tvm_flow_trust *trust, const signed_file *file, tvm_flow_error *error) {
  uint32_t key = 0;
  while (key < trust->num_keys && memcmp(trust->keys[key], file->key, sizeof file->key) != 0) key++;
  if (key == trust->num_keys)
    return refuse(error, TVM_FLOW_UNKNOWN_KEY,
                  "signature.bin: expected one of %u trusted keys, got %02x%02x%02x%02x...; have it signed by one of "
                  "them", trust->num_keys, file->key[0], file->key[1], file->key[2], file->key[3]);
  if (tvm_flow_ed25519_check(file->signature, file->key, (const void *)file, SIGNED_BYTES)) return TVM_FLOW_OK;
  return refuse(error, TVM_FLOW_BAD_SIGNATURE,
                "signature.bin: expected a signature by the key that it names, got another; do not use this bundle");
}

/* From here on every field is the signer's word. */
static tvm_flow_status check_bundle(const tvm_flow_trust *trust, const signed_file *file,
                                    const tvm_flow_identity *identity, tvm_flow_error *error) {
  const int decodes = strcmp(identity->file, "decoder.bin") == 0;
  const uint8_t *expected = decodes ? file->decoder : file->steps;
  if ((!decodes && strcmp(identity->file, "steps.bin") != 0) || memcmp(expected, identity->sha256, 32) != 0)
    return refuse(error, TVM_FLOW_BAD_SIGNATURE,
                  "%s: expected the file that was signed, sha256 %02x%02x%02x%02x..., got %02x%02x%02x%02x...; do not "
                  "use this bundle, or copy it again", identity->file, expected[0], expected[1], expected[2],
                  expected[3], identity->sha256[0], identity->sha256[1], identity->sha256[2], identity->sha256[3]);
  if (trust->model && strcmp(trust->model, file->model) != 0)
    return refuse(error, TVM_FLOW_BAD_SIGNATURE,
                  "signature.bin: expected the model %.63s, got one signed as %s; open that model's bundle",
                  trust->model, file->model);
  if (file->version < trust->least)
    return refuse(error, TVM_FLOW_OLDER_VERSION,
                  "signature.bin: expected version %llu or later, got %llu; install a newer bundle",
                  (unsigned long long)trust->least, (unsigned long long)file->version);
  return TVM_FLOW_OK;
}

tvm_flow_status tvm_flow_check_signature(void *user, const tvm_flow_identity *identity, tvm_flow_error *error) {
  tvm_flow_trust *trust = user;
  signed_file file = {.schema = 0};
  tvm_flow_status s = check_trust(trust, identity, error);
  if (!s) s = read_file(identity, &file, error);
  if (!s) s = check_signer(trust, &file, error);
  if (!s) s = check_bundle(trust, &file, identity, error);
  if (!s) trust->version = file.version;
  return s;
}
