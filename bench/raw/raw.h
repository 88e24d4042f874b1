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
	int kind;
	int lengths; // ask C_Sign for the length first, as bindings do
	// Handles: rsa and p256 private keys, hmac and aes secret keys. A work uses its own.
	CK_ULONG rsa, p256, hmac, aes;
} raw_work;

enum { RAW_VAULT_ROW = 256, RAW_INDEX_INPUT = 48 }; // bytes, about those of a card's row and its look-up

// A session with what its work needs. It does one piece at a time.
typedef struct {
	raw_token token;
	raw_work work;
	CK_ULONG handle;
	CK_BYTE sealed[RAW_VAULT_ROW + 16]; // a sample that the AES key opens
	CK_BYTE digest[32];                 // that is signed
	CK_BYTE signature[512];             // the last
	CK_ULONG signature_len;
} raw_session;

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
raw_error raw_open_session(const raw_token *t, const raw_work *work, raw_session *out);
raw_error raw_do(raw_session *s);
raw_error raw_run(const raw_token *t, const raw_work *work, int threads, double seconds, raw_result *out);

#endif
