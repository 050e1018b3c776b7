#pragma once

#include <functional>
#include <memory>
#include <string>

#include "fuseline/core/status.h"

namespace fuseline {

// A small HTTP server for operators: GET of a few fixed paths. Own threads; handlers run on them and must be thread-safe.
class HttpServer {
 public:
  struct Response {
    int code = 200;
    std::string content_type = "text/plain; charset=utf-8";
    std::string body;
  };
  using Handler = std::function<Response()>;

  HttpServer();
  ~HttpServer();  // Stops.

  void Get(const std::string& path, Handler handler);  // REQUIRES: before Start.
  // `address`: host:port, port 0 for any. Errors: kInvalidInput for a bad address, kUnavailable if it cannot be bound.
  Status Start(const std::string& address);
  int port() const;  // The bound port.

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The body of http://`address``path`. Errors: kUnavailable when nobody answers within `timeout_ms`, kNotFound for 404,
// kInternal for any other answer but 200.
Result<std::string> HttpGet(const std::string& address, const std::string& path, int timeout_ms);

}  // namespace fuseline
