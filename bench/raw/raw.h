// The loop: PKCS#11 calls in C, nothing else. raw.go has what it means.

#ifndef MINTMARK_BENCH_RAW_H
#define MINTMARK_BENCH_RAW_H

#include <stdint.h>

#include "pkcs11.h"

typedef struct {
	CK_FUNCTION_LIST *list;
	CK_ULONG slot;
	CK_ULONG session; // holds the login and finds
} raw_token;

enum { RAW_RSA, RAW_P256, RAW_CARD };

typedef struct {
	int work;
	int lengths; // ask C_Sign for the length first, as bindings do
	int threads;
	double seconds;
	// Handles: rsa and p256 private keys, hmac and aes secret keys. A work uses its own.
	CK_ULONG rsa, p256, hmac, aes;
} raw_load;

typedef struct {
	uint64_t operations;
	double seconds, cpu_seconds;
	double p50, p99; // seconds
} raw_result;

// An error is a function of PKCS#11 and what it returned; call is NULL without one.
typedef struct {
	const char *call;
	CK_RV rv;
} raw_error;

raw_error raw_open(const char *module, const char *label, const char *pin, CK_ULONG pin_len, raw_token *out);
raw_error raw_close(raw_token *t);
raw_error raw_find(raw_token *t, CK_ULONG class, const CK_BYTE *id, CK_ULONG n, CK_ULONG *handle, CK_ULONG *found);
raw_error raw_generate(raw_token *t, const char *label, const CK_BYTE *id, CK_ULONG n);
raw_error raw_destroy(raw_token *t, const CK_BYTE *id, CK_ULONG n, const char *prefix, CK_ULONG *destroyed);
raw_error raw_session(raw_token *t, CK_ULONG *session);
raw_error raw_sign_rsa(raw_token *t, CK_ULONG session, CK_ULONG key, const CK_BYTE *digest, CK_BYTE *out, CK_ULONG *len);
raw_error raw_run(raw_token *t, const raw_load *load, raw_result *out);

#endif
