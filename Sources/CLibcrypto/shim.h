#include <openssl/bn.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

// What OpenSSL offers only as macros or variadic functions, which Swift does not see.

/// A new EC key on P-256, or NULL.
static inline EVP_PKEY *leasehold_generate_p256(void) { return EVP_EC_gen("P-256"); }

/// The content of a memory BIO; valid until the BIO changes.
static inline long leasehold_bio_content(BIO *bio, char **content) { return BIO_get_mem_data(bio, content); }

/// "CN=name,O=…", printable.
static inline int leasehold_print_name(BIO *bio, const X509_NAME *name) {
  return X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
}

/// Adds an extension from its configuration text; 1 on success. `issuer` may be the certificate itself.
static inline int leasehold_add_extension(X509 *certificate, X509 *issuer, int nid, const char *value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
  X509V3_set_ctx_nodb(&context);
  X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
  if (extension == NULL) return 0;
  int result = X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
  return result;
}

/// The same for a revocation list.
static inline int leasehold_add_crl_extension(X509_CRL *crl, X509 *issuer, int nid, const char *value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, NULL, NULL, crl, 0);
  X509V3_set_ctx_nodb(&context);
  X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
  if (extension == NULL) return 0;
  int result = X509_CRL_add_ext(crl, extension, -1);
  X509_EXTENSION_free(extension);
  return result;
}

static inline int leasehold_error_reason(unsigned long code) { return ERR_GET_REASON(code); }
static inline int leasehold_error_library(unsigned long code) { return ERR_GET_LIB(code); }

// Stacks of certificates and revocation entries.
static inline int leasehold_names_count(const GENERAL_NAMES *names) { return sk_GENERAL_NAME_num(names); }
static inline GENERAL_NAME *leasehold_name_at(const GENERAL_NAMES *names, int index) {
  return sk_GENERAL_NAME_value(names, index);
}
static inline STACK_OF(X509) *leasehold_new_chain(void) { return sk_X509_new_null(); }
static inline int leasehold_push_certificate(STACK_OF(X509) *chain, X509 *certificate) {
  return sk_X509_push(chain, certificate);
}
static inline void leasehold_free_chain(STACK_OF(X509) *chain) { sk_X509_pop_free(chain, X509_free); }
static inline int leasehold_revoked_count(X509_CRL *crl) {
  STACK_OF(X509_REVOKED) *entries = X509_CRL_get_REVOKED(crl);
  return entries == NULL ? 0 : sk_X509_REVOKED_num(entries);
}
static inline X509_REVOKED *leasehold_revoked_at(X509_CRL *crl, int index) {
  return sk_X509_REVOKED_value(X509_CRL_get_REVOKED(crl), index);
}

// RSA-PSS.
static const int LEASEHOLD_PSS_PADDING = RSA_PKCS1_PSS_PADDING;
static const int LEASEHOLD_PSS_SALT_AUTO = RSA_PSS_SALTLEN_AUTO;
static const int LEASEHOLD_PSS_SALT_OF_HASH = RSA_PSS_SALTLEN_DIGEST;

static inline void leasehold_free(void *bytes) { OPENSSL_free(bytes); }
