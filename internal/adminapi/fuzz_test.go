package adminapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// FuzzHandler holds that what is said to be JSON is, and that only the questions get 200.
func FuzzHandler(f *testing.F) {
	f.Add("GET", "/v1/info", "")
	f.Add("GET", "/healthz", "{}")
	f.Add("POST", "/v1//info/../x", "x")
	h := adminapi.Handler(&agent{})
	f.Fuzz(func(t *testing.T, method, path, body string) {
		r, err := http.NewRequest(method, "http://agent/", strings.NewReader(body))
		if err != nil {
			return
		}
		r.URL = &url.URL{Path: path}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusOK && path != "/v1/info" && path != "/healthz" && path != "/readyz" {
			t.Errorf("%s %q got 200", method, path)
		}
		if ct := w.Header().Get("Content-Type"); ct == "application/json" && method != http.MethodHead && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%s %q got %q", method, path, w.Body)
		}
	})
}
