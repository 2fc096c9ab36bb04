package consul

import "net/http"

// Between puts a test's transport between the client and the one it has; before the first call.
func (s *Store) Between(wrap func(http.RoundTripper) http.RoundTripper) {
	s.http.Transport = wrap(s.http.Transport)
}
