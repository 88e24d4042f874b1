// The loops, and the threads that run them.

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "raw.h"

typedef CK_ULONG H;

#define TRY(name, call)                                \
	do {                                           \
		CK_RV rv_ = (call);                    \
		if (rv_ != CKR_OK)                     \
			return (raw_error){name, rv_}; \
	} while (0)

// Functions of the list with the parameters that they have here.
#define SIGN_INIT(f) ((CK_RV(*)(H, CK_MECHANISM *, H))(f)->at[AT_SignInit])
#define SIGN(f) ((CK_RV(*)(H, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *))(f)->at[AT_Sign])
#define CIPHER_INIT(f, at_) ((CK_RV(*)(H, CK_MECHANISM *, H))(f)->at[at_])
#define CIPHER(f, at_) ((CK_RV(*)(H, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *))(f)->at[at_])

typedef struct {
	const raw_token *token;
	const raw_work *work;
	atomic_bool *go, *stop; // a worker that fails stops all
	atomic_int *ready;
	raw_session session;
	uint64_t *took; // nanoseconds each
	size_t n, room;
	raw_error err;
} worker;

static uint64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double cpu(void) {
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static raw_error sign(raw_session *s, CK_ULONG mechanism, H key, CK_BYTE *in, CK_ULONG n, int lengths) {
	CK_FUNCTION_LIST *f = s->token.list;
	CK_MECHANISM m = {mechanism, NULL, 0};
	TRY("C_SignInit", SIGN_INIT(f)(s->handle, &m, key));
	if (lengths)
		TRY("C_Sign", SIGN(f)(s->handle, in, n, NULL, &s->signature_len));
	s->signature_len = sizeof s->signature;
	TRY("C_Sign", SIGN(f)(s->handle, in, n, s->signature, &s->signature_len));
	return (raw_error){0};
}

// What stands before a SHA-256 digest in its DigestInfo (RFC 8017, 9.2).
static const CK_BYTE info[19] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20};

static raw_error rsa(raw_session *s, int lengths) {
	CK_BYTE in[sizeof info + sizeof s->digest];
	memcpy(in, info, sizeof info);
	memcpy(in + sizeof info, s->digest, sizeof s->digest);
	return sign(s, CKM_RSA_PKCS, s->work.rsa, in, sizeof in, lengths);
}

static raw_error gcm(raw_session *s, int at, CK_BYTE *in, CK_ULONG n, CK_BYTE *out, CK_ULONG len) {
	CK_BYTE iv[12] = {0}; // of a sample of zeroes under a key for nothing else
	CK_GCM_PARAMS p = {iv, sizeof iv, 96, NULL, 0, 128};
	CK_MECHANISM m = {CKM_AES_GCM, &p, sizeof p};
	TRY("C_EncryptInit or C_DecryptInit", CIPHER_INIT(s->token.list, at - 1)(s->handle, &m, s->work.aes));
	TRY("C_Encrypt or C_Decrypt", CIPHER(s->token.list, at)(s->handle, in, n, out, &len));
	return (raw_error){0};
}

static CK_BYTE yes = 1, no = 0;

static raw_error pair(raw_session *s, H *public, H *private) {
	static CK_BYTE curve[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
	CK_MECHANISM m = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
	CK_ATTRIBUTE pub[] = {{CKA_EC_PARAMS, curve, sizeof curve}, {CKA_TOKEN, &no, 1}, {CKA_PRIVATE, &no, 1}, {CKA_VERIFY, &no, 1},
		{CKA_ENCRYPT, &no, 1}, {CKA_WRAP, &no, 1}};
	CK_ATTRIBUTE priv[] = {{CKA_TOKEN, &no, 1}, {CKA_PRIVATE, &yes, 1}, {CKA_SENSITIVE, &yes, 1}, {CKA_EXTRACTABLE, &no, 1},
		{CKA_DERIVE, &yes, 1}, {CKA_SIGN, &no, 1}, {CKA_DECRYPT, &no, 1}, {CKA_UNWRAP, &no, 1}};
	TRY("C_GenerateKeyPair", ((CK_RV(*)(H, CK_MECHANISM *, CK_ATTRIBUTE *, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG, H *, H *))
		s->token.list->at[AT_GenerateKeyPair])(s->handle, &m, pub, sizeof pub / sizeof *pub, priv, sizeof priv / sizeof *priv, public, private));
	return (raw_error){0};
}

// agree derives Z with a peer: the curve's generator, a point like any other.
static raw_error agree(raw_session *s, H private, H *z) {
	static CK_BYTE generator[65] = {0x04,
		0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
		0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96,
		0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16,
		0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};
	CK_ULONG class = CKO_SECRET_KEY, type = CKK_GENERIC_SECRET, len = 32;
	CK_ECDH1_DERIVE_PARAMS p = {CKD_NULL, 0, NULL, sizeof generator, generator};
	CK_MECHANISM m = {CKM_ECDH1_DERIVE, &p, sizeof p};
	CK_ATTRIBUTE secret[] = {{CKA_CLASS, &class, sizeof class}, {CKA_KEY_TYPE, &type, sizeof type}, {CKA_VALUE_LEN, &len, sizeof len},
		{CKA_TOKEN, &no, 1}, {CKA_PRIVATE, &yes, 1}, {CKA_SENSITIVE, &yes, 1}, {CKA_EXTRACTABLE, &no, 1}, {CKA_DERIVE, &no, 1},
		{CKA_ENCRYPT, &no, 1}, {CKA_DECRYPT, &no, 1}, {CKA_SIGN, &no, 1}, {CKA_VERIFY, &no, 1}, {CKA_WRAP, &no, 1}, {CKA_UNWRAP, &no, 1}};
	TRY("C_DeriveKey", ((CK_RV(*)(H, CK_MECHANISM *, H, CK_ATTRIBUTE *, CK_ULONG, H *))s->token.list->at[AT_DeriveKey])(
		s->handle, &m, private, secret, sizeof secret / sizeof *secret, z));
	return (raw_error){0};
}

static raw_error digest_key(raw_session *s, H z) {
	CK_FUNCTION_LIST *f = s->token.list;
	CK_MECHANISM m = {CKM_SHA256, NULL, 0};
	CK_BYTE counter[4] = {0, 0, 0, 1}, info[96] = {0}, out[32];
	CK_ULONG len = sizeof out;
	CK_RV (*update)(H, CK_BYTE *, CK_ULONG) = (void *)f->at[AT_DigestUpdate];
	TRY("C_DigestInit", ((CK_RV(*)(H, CK_MECHANISM *))f->at[AT_DigestInit])(s->handle, &m));
	TRY("C_DigestUpdate", update(s->handle, counter, sizeof counter));
	TRY("C_DigestKey", ((CK_RV(*)(H, H))f->at[AT_DigestKey])(s->handle, z));
	TRY("C_DigestUpdate", update(s->handle, info, sizeof info));
	TRY("C_DigestFinal", ((CK_RV(*)(H, CK_BYTE *, CK_ULONG *))f->at[AT_DigestFinal])(s->handle, out, &len));
	return (raw_error){0};
}

static raw_error seal(raw_session *s) {
	CK_FUNCTION_LIST *f = s->token.list;
	H made[3]; // public, private, Z
	CK_BYTE point[128];
	CK_ATTRIBUTE at = {CKA_EC_POINT, point, sizeof point};
	CK_RV (*get)(H, H, CK_ATTRIBUTE *, CK_ULONG) = (void *)f->at[AT_GetAttributeValue];
	CK_RV (*destroy)(H, H) = (void *)f->at[AT_DestroyObject];
	raw_error err = pair(s, &made[0], &made[1]);
	if (err.call != NULL)
		return err;
	TRY("C_GetAttributeValue", get(s->handle, made[0], &at, 1));
	if ((err = agree(s, made[1], &made[2])).call != NULL || (err = digest_key(s, made[2])).call != NULL)
		return err;
	for (int i = 2; i >= 0; i--)
		TRY("C_DestroyObject", destroy(s->handle, made[i]));
	return err;
}

// card makes the calls of docs/pkcs11.md: find the card, open it, seal it, sign its
// activation data, which is through a binding that asks for lengths.
static raw_error card(raw_session *s) {
	CK_BYTE index[RAW_INDEX_INPUT] = {0}, clear[sizeof s->sealed];
	raw_error err = sign(s, CKM_SHA256_HMAC, s->work.hmac, index, sizeof index, 0);
	if (err.call == NULL)
		err = gcm(s, AT_Decrypt, s->sealed, sizeof s->sealed, clear, sizeof clear);
	if (err.call == NULL)
		err = seal(s);
	return err.call == NULL ? rsa(s, 1) : err;
}

raw_error raw_do(raw_session *s) {
	switch (s->work.kind) {
	case RAW_RSA:
		return rsa(s, s->work.lengths);
	case RAW_P256:
		return sign(s, CKM_ECDSA, s->work.p256, s->digest, sizeof s->digest, 0);
	default:
		return card(s);
	}
}

raw_error raw_open_session(const raw_token *t, const raw_work *work, raw_session *s) {
	CK_BYTE zeroes[RAW_VAULT_ROW] = {0};
	s->token = *t, s->work = *work;
	TRY("C_OpenSession", ((CK_RV(*)(CK_ULONG, CK_ULONG, void *, void *, H *))t->list->at[AT_OpenSession])(
		t->slot, CKF_SERIAL_SESSION, NULL, NULL, &s->handle));
	return work->kind == RAW_CARD ? gcm(s, AT_Encrypt, zeroes, sizeof zeroes, s->sealed, sizeof s->sealed) : (raw_error){0};
}

static void *loop(void *of) {
	worker *w = of;
	w->err = raw_open_session(w->token, w->work, &w->session);
	if (w->err.call == NULL)
		w->err = raw_do(&w->session);
	if (w->err.call != NULL)
		atomic_store(w->stop, true);
	atomic_fetch_add(w->ready, 1);
	while (!atomic_load(w->go) && !atomic_load(w->stop))
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	// Each does one at least, however late it wakes: a load in which nothing was done gives no figures.
	for (bool due = atomic_load(w->go); w->err.call == NULL && (due || !atomic_load_explicit(w->stop, memory_order_relaxed)); due = false) {
		if (w->n == w->room) {
			size_t room = w->room == 0 ? 4096 : 2 * w->room;
			uint64_t *more = realloc(w->took, room * sizeof *more);
			if (more == NULL) {
				w->err = (raw_error){"realloc", 0};
				break;
			}
			w->took = more, w->room = room;
		}
		uint64_t began = now();
		w->err = raw_do(&w->session);
		w->took[w->n++] = now() - began;
	}
	if (w->err.call != NULL)
		atomic_store(w->stop, true);
	((CK_RV(*)(H))w->token->list->at[AT_CloseSession])(w->session.handle);
	return NULL;
}

static int by_size(const void *a, const void *b) {
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

// gather puts the times of all workers in order.
static raw_error gather(worker *all, int threads, raw_result *out) {
	size_t n = 0, at = 0;
	for (int i = 0; i < threads; i++)
		n += all[i].n;
	uint64_t *took = malloc((n + 1) * sizeof *took);
	if (n == 0 || took == NULL) {
		free(took);
		return (raw_error){"nothing was done", 0};
	}
	for (int i = 0; i < threads; i++) {
		if (all[i].n > 0)
			memcpy(took + at, all[i].took, all[i].n * sizeof *took);
		at += all[i].n;
	}
	qsort(took, n, sizeof *took, by_size);
	out->operations = n;
	out->p50 = (double)took[n / 2] / 1e9, out->p99 = (double)took[n * 99 / 100] / 1e9;
	free(took);
	return (raw_error){0};
}

// rest waits until then, or until a worker has failed.
static void rest(uint64_t until, atomic_bool *stop) {
	for (uint64_t at = now(); at < until && !atomic_load(stop); at = now()) {
		uint64_t left = until - at < 10000000 ? until - at : 10000000;
		nanosleep(&(struct timespec){.tv_nsec = (long)left}, NULL);
	}
}

raw_error raw_run(const raw_token *t, const raw_work *work, int count, double seconds, raw_result *out) {
	atomic_bool go = false, stop = false;
	atomic_int ready = 0;
	raw_error err = {0};
	worker *all = calloc((size_t)count, sizeof *all);
	pthread_t *threads = calloc((size_t)count, sizeof *threads);
	int started = 0;
	for (; all != NULL && threads != NULL && started < count; started++) {
		all[started] = (worker){.token = t, .work = work, .go = &go, .stop = &stop, .ready = &ready};
		if (pthread_create(&threads[started], NULL, loop, &all[started]) != 0)
			break;
	}
	if (started < count) {
		err = (raw_error){"pthread_create", 0};
	} else {
		while (atomic_load(&ready) < started)
			nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
		double used = cpu();
		uint64_t began = now();
		atomic_store(&go, true);
		rest(began + (uint64_t)(seconds * 1e9), &stop);
		atomic_store(&stop, true);
		for (int i = 0; i < started; i++)
			pthread_join(threads[i], NULL);
		out->seconds = (double)(now() - began) / 1e9, out->cpu_seconds = cpu() - used;
		for (int i = 0; i < started && err.call == NULL; i++)
			err = all[i].err;
		if (err.call == NULL)
			err = gather(all, started, out);
		started = 0;
	}
	atomic_store(&stop, true);
	for (int i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; all != NULL && i < count; i++)
		free(all[i].took);
	free(all), free(threads);
	return err;
}
