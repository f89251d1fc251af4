#include "tests/server/raw_client.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "server/http_gate.h"

namespace mole::server {
namespace {

constexpr timeval kTimeout{20, 0};

}  // namespace

RawClient::RawClient(uint16_t port, int receive_buffer_bytes) {
  socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &kTimeout, sizeof(kTimeout));
  if (receive_buffer_bytes > 0) {
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes,
                 sizeof(receive_buffer_bytes));
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) close();
}

RawClient::~RawClient() { close(); }

void RawClient::close() {
  if (socket_ >= 0) ::close(socket_);
  socket_ = -1;
}

void RawClient::half_close() { ::shutdown(socket_, SHUT_WR); }

bool RawClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool RawClient::read_more() {
  char buffer[16384];
  const ssize_t got = ::recv(socket_, buffer, sizeof(buffer), 0);
  if (got <= 0) return false;
  received_.append(buffer, static_cast<size_t>(got));
  return true;
}

std::string RawClient::read_to_end() {
  while (read_more()) {
  }
  return std::move(received_);
}

std::string RawClient::read_chunked() {
  std::string body;
  while (true) {
    size_t end = 0;
    while ((end = received_.find("\r\n")) == std::string::npos) {
      if (!read_more()) return body;
    }
    const size_t size = std::stoul(received_.substr(0, end), nullptr, 16);
    while (received_.size() < end + 2 + size + 2) {
      if (!read_more()) return body;
    }
    body += received_.substr(end + 2, size);
    received_.erase(0, end + 2 + size + 2);
    if (size == 0) return body;
  }
}

std::optional<RawResponse> RawClient::read_response(bool head_only) {
  size_t end = 0;
  while ((end = received_.find("\r\n\r\n")) == std::string::npos) {
    if (!read_more()) return std::nullopt;
  }
  RawResponse response;
  const std::string head = received_.substr(0, end + 2);
  received_.erase(0, end + 4);
  EXPECT_EQ(head.substr(0, 9), "HTTP/1.1 ");
  response.status = std::stoi(head.substr(9, 3));
  for (size_t begin = head.find("\r\n") + 2; begin < head.size();) {
    const size_t line_end = head.find("\r\n", begin);
    const size_t colon = head.find(':', begin);
    response.headers[to_lower(head.substr(begin, colon - begin))] =
        head.substr(colon + 2, line_end - colon - 2);
    begin = line_end + 2;
  }
  if (head_only || response.status == 204 || response.status == 100) return response;
  if (response.headers.count("transfer-encoding") > 0) {
    response.body = read_chunked();
  } else if (const auto length = response.headers.find("content-length");
             length != response.headers.end()) {
    const size_t size = std::stoul(length->second);
    while (received_.size() < size) {
      if (!read_more()) return std::nullopt;
    }
    response.body = received_.substr(0, size);
    received_.erase(0, size);
  } else {
    response.body = read_to_end();
  }
  return response;
}

RawClient* wait_for_any(const std::vector<RawClient*>& clients) {
  std::vector<pollfd> waits;
  for (const RawClient* client : clients) waits.push_back({client->socket_, POLLIN, 0});
  if (::poll(waits.data(), waits.size(), static_cast<int>(kTimeout.tv_sec) * 1'000) <= 0) {
    return nullptr;
  }
  for (size_t i = 0; i < waits.size(); ++i) {
    if (waits[i].revents != 0) return clients[i];
  }
  return nullptr;
}

std::string post(std::string_view path, std::string_view json, std::string_view more_headers) {
  return "POST " + std::string(path) +
         " HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n" +
         std::string(more_headers) + "Content-Length: " + std::to_string(json.size()) + "\r\n\r\n" +
         std::string(json);
}

std::string get(std::string_view path, std::string_view more_headers) {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n" + std::string(more_headers) +
         "\r\n";
}

RawResponse exchange(uint16_t port, const std::string& request) {
  RawClient client(port);
  client.send(request);
  auto response = client.read_response();
  EXPECT_TRUE(response.has_value()) << "no response to: " << request.substr(0, 200);
  return response.value_or(RawResponse{});
}

std::vector<std::string> events(const std::string& stream) {
  std::vector<std::string> found;
  for (size_t begin = 0; begin < stream.size();) {
    const size_t end = stream.find("\n\n", begin);
    EXPECT_NE(end, std::string::npos) << "an event without its end: " << stream.substr(begin);
    if (end == std::string::npos) break;
    const std::string event = stream.substr(begin, end - begin);
    if (event.substr(0, 6) == "data: ") found.push_back(event.substr(6));
    begin = end + 2;
  }
  return found;
}

}  // namespace mole::server
