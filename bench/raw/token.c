// Opening a token, and the objects on it.

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#include "raw.h"

typedef CK_ULONG H;

#define FAILED(name, value) return (raw_error){name, value}
#define TRY(name, call)                 \
	do {                            \
		CK_RV rv_ = (call);     \
		if (rv_ != CKR_OK)      \
			FAILED(name, rv_); \
	} while (0)

static bool has_label(const CK_BYTE *padded, const char *label) {
	CK_BYTE want[32];
	memset(want, ' ', sizeof want);
	memcpy(want, label, strlen(label) < sizeof want ? strlen(label) : sizeof want);
	return memcmp(padded, want, sizeof want) == 0;
}

// choose finds the slot with the token.
static raw_error choose(CK_FUNCTION_LIST *f, const char *label, CK_ULONG *slot) {
	CK_ULONG slots[256], n = 256;
	CK_RV (*get_slots)(CK_BYTE, CK_ULONG *, CK_ULONG *) = (void *)f->at[AT_GetSlotList];
	CK_RV (*get_info)(CK_ULONG, void *) = (void *)f->at[AT_GetTokenInfo];
	TRY("C_GetSlotList", get_slots(1, slots, &n));
	for (CK_ULONG i = 0; i < n; i++) {
		CK_BYTE info[512] = {0}; // CK_TOKEN_INFO begins with the label's 32 bytes
		if (get_info(slots[i], info) == CKR_OK && has_label(info, label)) {
			*slot = slots[i];
			return (raw_error){0};
		}
	}
	FAILED("C_GetTokenInfo: no token with this label", 0xe0); // CKR_TOKEN_NOT_PRESENT
}

raw_error raw_open(const char *module, const char *label, const char *pin, CK_ULONG pin_len, raw_token *out) {
	CK_RV (*get)(CK_FUNCTION_LIST **) = NULL;
	void *library = dlopen(module, RTLD_NOW);
	if (library != NULL)
		*(void **)&get = dlsym(library, "C_GetFunctionList");
	if (get == NULL)
		FAILED("dlopen: no PKCS#11 module", 0);
	TRY("C_GetFunctionList", get(&out->list));
	CK_FUNCTION_LIST *f = out->list;
	CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
	TRY("C_Initialize", ((CK_RV(*)(void *))f->at[AT_Initialize])(&args));
	raw_error err = choose(f, label, &out->slot);
	if (err.call != NULL)
		return err;
	TRY("C_OpenSession", ((CK_RV(*)(CK_ULONG, CK_ULONG, void *, void *, H *))f->at[AT_OpenSession])(
		out->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &out->session));
	TRY("C_Login", ((CK_RV(*)(H, CK_ULONG, const char *, CK_ULONG))f->at[AT_Login])(out->session, CKU_USER, pin, pin_len));
	return (raw_error){0};
}

raw_error raw_close(raw_token *t) {
	if (t->list == NULL)
		return (raw_error){0};
	TRY("C_Finalize", ((CK_RV(*)(void *))t->list->at[AT_Finalize])(NULL));
	return (raw_error){0};
}

// find gives up to room handles of the objects that match.
static raw_error find(raw_token *t, CK_ATTRIBUTE *match, CK_ULONG n, H *handles, CK_ULONG room, CK_ULONG *found) {
	CK_FUNCTION_LIST *f = t->list;
	TRY("C_FindObjectsInit", ((CK_RV(*)(H, CK_ATTRIBUTE *, CK_ULONG))f->at[AT_FindObjectsInit])(t->session, match, n));
	CK_RV rv = ((CK_RV(*)(H, H *, CK_ULONG, CK_ULONG *))f->at[AT_FindObjects])(t->session, handles, room, found);
	((CK_RV(*)(H))f->at[AT_FindObjectsFinal])(t->session);
	TRY("C_FindObjects", rv);
	return (raw_error){0};
}

raw_error raw_find(raw_token *t, CK_ULONG class, const CK_BYTE *id, CK_ULONG n, CK_ULONG *handle, CK_ULONG *found) {
	H all[2];
	CK_BYTE yes = 1;
	CK_ATTRIBUTE match[] = {{CKA_CLASS, &class, sizeof class}, {CKA_TOKEN, &yes, 1}, {CKA_ID, (void *)id, n}};
	raw_error err = find(t, match, 3, all, 2, found);
	if (err.call == NULL && *found > 0)
		*handle = all[0];
	return err;
}

static CK_BYTE p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};

raw_error raw_generate(raw_token *t, const char *label, const CK_BYTE *id, CK_ULONG n) {
	CK_BYTE yes = 1, no = 0;
	CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
	CK_ATTRIBUTE public[] = {{CKA_TOKEN, &yes, 1}, {CKA_EC_PARAMS, p256, sizeof p256}, {CKA_VERIFY, &yes, 1},
		{CKA_LABEL, (void *)label, strlen(label)}, {CKA_ID, (void *)id, n}};
	CK_ATTRIBUTE private[] = {{CKA_TOKEN, &yes, 1}, {CKA_PRIVATE, &yes, 1}, {CKA_SENSITIVE, &yes, 1}, {CKA_EXTRACTABLE, &no, 1},
		{CKA_SIGN, &yes, 1}, {CKA_LABEL, (void *)label, strlen(label)}, {CKA_ID, (void *)id, n}};
	H a, b;
	TRY("C_GenerateKeyPair", ((CK_RV(*)(H, CK_MECHANISM *, CK_ATTRIBUTE *, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG, H *, H *))
		t->list->at[AT_GenerateKeyPair])(t->session, &mechanism, public, 5, private, 7, &a, &b));
	return (raw_error){0};
}

// begins says whether an object's label begins with prefix.
static raw_error begins(raw_token *t, H object, const char *prefix, bool *yes) {
	char label[128] = {0};
	CK_ATTRIBUTE at = {CKA_LABEL, label, sizeof label};
	TRY("C_GetAttributeValue", ((CK_RV(*)(H, H, CK_ATTRIBUTE *, CK_ULONG))t->list->at[AT_GetAttributeValue])(t->session, object, &at, 1));
	*yes = at.len >= strlen(prefix) && memcmp(label, prefix, strlen(prefix)) == 0;
	return (raw_error){0};
}

raw_error raw_destroy(raw_token *t, const CK_BYTE *id, CK_ULONG n, const char *prefix, CK_ULONG *destroyed) {
	H all[8];
	CK_ULONG found = 0;
	CK_BYTE yes = 1;
	CK_ATTRIBUTE match[] = {{CKA_TOKEN, &yes, 1}, {CKA_ID, (void *)id, n}};
	raw_error err = find(t, match, 2, all, 8, &found);
	for (CK_ULONG i = 0; err.call == NULL && i < found; i++) {
		bool ours = false;
		err = begins(t, all[i], prefix, &ours);
		if (err.call == NULL && !ours)
			FAILED("C_DestroyObject: somebody else's key", 0);
	}
	for (*destroyed = 0; err.call == NULL && *destroyed < found; ++*destroyed)
		TRY("C_DestroyObject", ((CK_RV(*)(H, H))t->list->at[AT_DestroyObject])(t->session, all[*destroyed]));
	return err;
}
