// What the loop needs of PKCS#11 v2.40 (base and mechanisms). A function list is a version
// and then the functions in the order of pkcs11f.h, which later versions only lengthen
// (base, 3.6); the AT numbers are places in it.

#ifndef MINTMARK_BENCH_PKCS11_H
#define MINTMARK_BENCH_PKCS11_H

typedef unsigned char CK_BYTE;
typedef unsigned long CK_ULONG;
typedef CK_ULONG CK_RV;

typedef struct {
	CK_ULONG type;
	void *value;
	CK_ULONG len;
} CK_ATTRIBUTE;

typedef struct {
	CK_ULONG mechanism;
	void *parameter;
	CK_ULONG len;
} CK_MECHANISM;

typedef struct {
	CK_BYTE *iv;
	CK_ULONG iv_len, iv_bits;
	CK_BYTE *aad;
	CK_ULONG aad_len, tag_bits;
} CK_GCM_PARAMS;

typedef struct {
	CK_ULONG kdf, shared_len;
	CK_BYTE *shared;
	CK_ULONG public_len;
	CK_BYTE *public;
} CK_ECDH1_DERIVE_PARAMS;

typedef struct {
	void *create, *destroy, *lock, *unlock;
	CK_ULONG flags;
	void *reserved;
} CK_C_INITIALIZE_ARGS;

typedef struct {
	CK_BYTE version[2];
	void (*at[68])(void);
} CK_FUNCTION_LIST;

enum {
	AT_Initialize = 0,
	AT_Finalize = 1,
	AT_GetSlotList = 4,
	AT_GetTokenInfo = 6,
	AT_OpenSession = 12,
	AT_CloseSession = 13,
	AT_Login = 18,
	AT_DestroyObject = 22,
	AT_GetAttributeValue = 24,
	AT_FindObjectsInit = 26,
	AT_FindObjects = 27,
	AT_FindObjectsFinal = 28,
	AT_EncryptInit = 29,
	AT_Encrypt = 30,
	AT_DecryptInit = 33,
	AT_Decrypt = 34,
	AT_DigestInit = 37,
	AT_DigestUpdate = 39,
	AT_DigestKey = 40,
	AT_DigestFinal = 41,
	AT_SignInit = 42,
	AT_Sign = 43,
	AT_GenerateKeyPair = 59,
	AT_DeriveKey = 62,
};

enum {
	CKR_OK = 0,
	CKR_USER_ALREADY_LOGGED_IN = 0x100,
	CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191,

	CKF_OS_LOCKING_OK = 2,
	CKF_RW_SESSION = 2,
	CKF_SERIAL_SESSION = 4,
	CKU_USER = 1,

	CKO_PUBLIC_KEY = 2,
	CKO_PRIVATE_KEY = 3,
	CKO_SECRET_KEY = 4,
	CKK_EC = 3,
	CKK_GENERIC_SECRET = 0x10,

	CKA_CLASS = 0,
	CKA_TOKEN = 1,
	CKA_PRIVATE = 2,
	CKA_LABEL = 3,
	CKA_KEY_TYPE = 0x100,
	CKA_ID = 0x102,
	CKA_SENSITIVE = 0x103,
	CKA_ENCRYPT = 0x104,
	CKA_DECRYPT = 0x105,
	CKA_WRAP = 0x106,
	CKA_UNWRAP = 0x107,
	CKA_SIGN = 0x108,
	CKA_VERIFY = 0x10a,
	CKA_DERIVE = 0x10c,
	CKA_VALUE_LEN = 0x161,
	CKA_EXTRACTABLE = 0x162,
	CKA_EC_PARAMS = 0x180,
	CKA_EC_POINT = 0x181,

	CKM_RSA_PKCS = 1,
	CKM_SHA256 = 0x250,
	CKM_SHA256_HMAC = 0x251,
	CKM_EC_KEY_PAIR_GEN = 0x1040,
	CKM_ECDSA = 0x1041,
	CKM_ECDH1_DERIVE = 0x1050,
	CKM_AES_GCM = 0x1087,
	CKD_NULL = 1,
};

#endif
