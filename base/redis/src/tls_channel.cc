#include "tls_channel.h"

#include <utility>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

namespace fuseline {
namespace {

struct FreeContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
struct FreeSsl {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};
using Context = std::unique_ptr<SSL_CTX, FreeContext>;

std::string LastError() {
  const char* const reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return reason == nullptr ? "unknown" : reason;
}

Status Unusable(std::string_view setting, const std::string& file) {
  return ErrorStatus(Code::kInvalidInput, setting, "cannot be used:", file, ":", LastError());
}

Status LoadFiles(SSL_CTX* context, const RedisTls& options) {
  const bool has_ca = !options.ca_file.empty();
  const int trusted = has_ca ? SSL_CTX_load_verify_locations(context, options.ca_file.c_str(), nullptr)
                             : SSL_CTX_set_default_verify_paths(context);
  if (trusted != 1) return Unusable("redis.tls_ca_file", has_ca ? options.ca_file : "the system's");
  if (options.cert_file.empty() != options.key_file.empty()) {
    return ErrorStatus(Code::kInvalidInput, "redis.tls_cert_file and redis.tls_key_file go together");
  }
  if (options.cert_file.empty()) return OkStatus();
  if (SSL_CTX_use_certificate_chain_file(context, options.cert_file.c_str()) != 1) {
    return Unusable("redis.tls_cert_file", options.cert_file);
  }
  if (SSL_CTX_use_PrivateKey_file(context, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return Unusable("redis.tls_key_file", options.key_file);
  }
  return OkStatus();
}

}  // namespace

struct TlsChannel::Impl {
  Context context;
  std::unique_ptr<SSL, FreeSsl> ssl;
  BIO* incoming = nullptr;  // The SSL's own.
  BIO* outgoing = nullptr;

  Status Failed() {
    const long verified = SSL_get_verify_result(ssl.get());
    if (verified != X509_V_OK) {
      ERR_clear_error();
      return ErrorStatus(Code::kInvalidInput, "the server's certificate is not accepted (redis.tls_ca_file, redis.tls_server_name):",
                         X509_verify_cert_error_string(verified));
    }
    return ErrorStatus(Code::kUnavailable, "TLS failed:", LastError());
  }
};

TlsChannel::TlsChannel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TlsChannel::~TlsChannel() = default;

Result<std::unique_ptr<TlsChannel>> TlsChannel::Create(const RedisTls& options, const std::string& host) {
  auto impl = std::make_unique<Impl>();
  impl->context.reset(SSL_CTX_new(TLS_client_method()));
  if (!impl->context) return Error(Code::kInternal, "OpenSSL makes no context");
  SSL_CTX_set_min_proto_version(impl->context.get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(impl->context.get(), SSL_VERIFY_PEER, nullptr);
  FUSELINE_FAIL_IF_ERROR(LoadFiles(impl->context.get(), options));
  impl->ssl.reset(SSL_new(impl->context.get()));
  impl->incoming = BIO_new(BIO_s_mem());
  impl->outgoing = BIO_new(BIO_s_mem());
  if (!impl->ssl || impl->incoming == nullptr || impl->outgoing == nullptr) return Error(Code::kInternal, "OpenSSL has no memory");
  SSL_set_bio(impl->ssl.get(), impl->incoming, impl->outgoing);
  SSL_set_connect_state(impl->ssl.get());

  const std::string& name = options.server_name.empty() ? host : options.server_name;
  const bool is_ip = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(impl->ssl.get()), name.c_str()) == 1;
  ERR_clear_error();
  if (!is_ip && (SSL_set1_host(impl->ssl.get(), name.c_str()) != 1 || SSL_set_tlsext_host_name(impl->ssl.get(), name.c_str()) != 1)) {
    return Error(Code::kInvalidInput, "redis.tls_server_name is no name:", name);
  }
  return std::unique_ptr<TlsChannel>(new TlsChannel(std::move(impl)));
}

Result<bool> TlsChannel::Handshake() {
  const int done = SSL_do_handshake(impl_->ssl.get());
  if (done == 1) return true;
  if (SSL_get_error(impl_->ssl.get(), done) == SSL_ERROR_WANT_READ) return false;
  return tl::unexpected(impl_->Failed());
}

Status TlsChannel::Encrypt(std::string_view plain) {
  while (!plain.empty()) {
    std::size_t written = 0;
    if (SSL_write_ex(impl_->ssl.get(), plain.data(), plain.size(), &written) != 1) return impl_->Failed();
    plain.remove_prefix(written);
  }
  return OkStatus();
}

void TlsChannel::Feed(std::string_view received) {
  std::size_t written = 0;
  BIO_write_ex(impl_->incoming, received.data(), received.size(), &written);  // Memory takes all of it.
}

Result<std::size_t> TlsChannel::Decrypt(std::span<char> into) {
  std::size_t read = 0;
  const int done = SSL_read_ex(impl_->ssl.get(), into.data(), into.size(), &read);
  if (done == 1) return read;
  const int error = SSL_get_error(impl_->ssl.get(), done);
  if (error == SSL_ERROR_WANT_READ) return std::size_t{0};
  if (error == SSL_ERROR_ZERO_RETURN) return Error(Code::kUnavailable, "TLS was ended by the server");
  return tl::unexpected(impl_->Failed());
}

std::string TlsChannel::TakeOutgoing() {
  std::string bytes(BIO_ctrl_pending(impl_->outgoing), '\0');
  std::size_t read = 0;
  if (!bytes.empty()) BIO_read_ex(impl_->outgoing, bytes.data(), bytes.size(), &read);
  bytes.resize(read);
  return bytes;
}

}  // namespace fuseline
