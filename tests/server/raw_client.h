// A client that sends bytes as they are: what no HTTP library lets a test do. Blocking; every wait
// ends after kTimeout, and the test fails on what then is missing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mole::server {

struct RawResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // a chunked one joined
};

class RawClient {
 public:
  explicit RawClient(uint16_t port, int receive_buffer_bytes = 0);
  ~RawClient();
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool connected() const { return socket_ >= 0; }
  /// False when the peer has closed.
  bool send(std::string_view bytes);
  /// The next whole response; nullopt if the connection ends or is silent before.
  std::optional<RawResponse> read_response(bool head_only = false);
  /// Everything until the peer closes.
  std::string read_to_end();
  /// At least one more byte, or false at the end.
  bool read_more();
  /// What was received and not yet taken by read_response().
  const std::string& received() const { return received_; }
  /// Ends our direction only.
  void half_close();
  void close();

 private:
  friend RawClient* wait_for_any(const std::vector<RawClient*>& clients);
  std::string read_chunked();

  int socket_ = -1;
  std::string received_;
};

/// The first of `clients` that has something to read; null if none has for too long.
RawClient* wait_for_any(const std::vector<RawClient*>& clients);

/// A POST of JSON with what every request needs.
std::string post(std::string_view path, std::string_view json, std::string_view more_headers = "");
std::string get(std::string_view path, std::string_view more_headers = "");

/// One request on its own connection.
RawResponse exchange(uint16_t port, const std::string& request);

/// The payloads of an event stream's "data:" lines.
std::vector<std::string> events(const std::string& stream);

}  // namespace mole::server
