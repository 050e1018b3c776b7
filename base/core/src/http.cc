#include "fuseline/core/http.h"

#include <charconv>
#include <thread>

#include <httplib.h>

namespace fuseline {

struct HttpServer::Impl {
  httplib::Server server;
  int port = 0;
  std::jthread thread;
};

HttpServer::HttpServer() : impl_(std::make_unique<Impl>()) {}

HttpServer::~HttpServer() {
  impl_->server.stop();
}

void HttpServer::Get(const std::string& path, Handler handler) {
  impl_->server.Get(path, [handler = std::move(handler)](const httplib::Request&, httplib::Response& reply) {
    const Response response = handler();
    reply.status = response.code;
    reply.set_content(response.body, response.content_type.c_str());
  });
}

Status HttpServer::Start(const std::string& address) {
  const auto colon = address.rfind(':');
  if (colon == std::string::npos) return ErrorStatus(Code::kInvalidInput, "address is not host:port:", address);
  const std::string host = address.substr(0, colon);
  int port = -1;
  const auto [end, error] = std::from_chars(address.data() + colon + 1, address.data() + address.size(), port);
  if (error != std::errc() || end != address.data() + address.size() || port < 0 || port > 65535) {
    return ErrorStatus(Code::kInvalidInput, "port of the address is no number from 0 to 65535:", address);
  }
  // Two threads are enough for a scraper and a person; the default is one per core and more.
  impl_->server.new_task_queue = [] { return new httplib::ThreadPool(2); };
  impl_->port = port == 0 ? impl_->server.bind_to_any_port(host.c_str()) : port;
  const bool bound = port == 0 ? impl_->port > 0 : impl_->server.bind_to_port(host.c_str(), port);
  if (!bound) return ErrorStatus(Code::kUnavailable, "cannot listen on address:", address);
  impl_->thread = std::jthread([this] { impl_->server.listen_after_bind(); });
  while (!impl_->server.is_running()) std::this_thread::yield();
  return OkStatus();
}

int HttpServer::port() const { return impl_->port; }

Result<std::string> HttpGet(const std::string& address, const std::string& path, int timeout_ms) {
  httplib::Client client("http://" + address);
  client.set_connection_timeout(std::chrono::milliseconds(timeout_ms));
  client.set_read_timeout(std::chrono::milliseconds(timeout_ms));
  const httplib::Result reply = client.Get(path.c_str());
  if (!reply) return Error(Code::kUnavailable, "no answer from", address, httplib::to_string(reply.error()));
  if (reply->status == 404) return Error(Code::kNotFound, "no such page:", address + path);
  if (reply->status != 200) return Error(Code::kInternal, "unexpected answer:", address + path, reply->status);
  return reply->body;
}

}  // namespace fuseline
