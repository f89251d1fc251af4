#include "clients/mole/url.h"

#include <algorithm>

namespace mole::client {

StatusOr<Url> parse_url(const std::string& text) {
  const auto wrong = [&](const std::string& why) {
    return absl::InvalidArgumentError("url: \"" + text + "\" " + why +
                                      "; accepted: http://HOST[:PORT][/PREFIX]");
  };
  const std::string scheme = "http://";
  if (text.rfind("https://", 0) == 0) return wrong("asks for TLS, which is a proxy's work here");
  if (text.rfind(scheme, 0) != 0) return wrong("does not begin with http://");
  const size_t slash = std::min(text.find('/', scheme.size()), text.size());
  std::string authority = text.substr(scheme.size(), slash - scheme.size());
  Url url;
  url.prefix = text.substr(slash);
  while (!url.prefix.empty() && url.prefix.back() == '/') url.prefix.pop_back();
  if (!authority.empty() && authority.front() == '[') {
    const size_t end = authority.find(']');
    if (end == std::string::npos) return wrong("has a bracket without its end");
    url.host = authority.substr(1, end - 1);
    authority.erase(0, end + 1);
  } else {
    const size_t colon = std::min(authority.find(':'), authority.size());
    url.host = authority.substr(0, colon);
    authority.erase(0, colon);
  }
  if (url.host.empty()) return wrong("names no host");
  if (!authority.empty()) {
    url.port = authority.substr(1);
    const bool digits =
        std::all_of(url.port.begin(), url.port.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (authority.front() != ':' || url.port.empty() || url.port.size() > 5 || !digits) {
      return wrong("has no valid port");
    }
  }
  const auto plain = [](const std::string& part) {
    return std::all_of(part.begin(), part.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  };
  if (!plain(url.host) || !plain(url.prefix)) return wrong("holds a character that no URL has");
  return url;
}

std::string host_field(const Url& url) {
  const bool v6 = url.host.find(':') != std::string::npos;
  return (v6 ? "[" + url.host + "]" : url.host) + ":" + url.port;
}

}  // namespace mole::client
