package plugin_test

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/plugin"
)

func FuzzNetworkDriver(f *testing.F) {
	for _, m := range []string{"GetCapabilities", "GwAllocCheck", "CreateNetwork", "DeleteNetwork", "CreateEndpoint", "DeleteEndpoint",
		"EndpointOperInfo", "Join", "Leave", "AllocateNetwork", "FreeNetwork", "DiscoverNew", "DiscoverDelete",
		"ProgramExternalConnectivity", "RevokeExternalConnectivity"} {
		f.Add(m, `{"NetworkID":"n1","EndpointID":"e1","Options":{},"IPv4Data":[{"Pool":"10.1.0.0/24","AuxAddresses":{"a":"10.1.0.9/24"}}]}`)
	}
	f.Add("CreateNetwork", `{"NetworkID":"n1","IPv6Data":[null]}`)
	f.Add("CreateEndpoint", `{"NetworkID":"n1","EndpointID":"e1","Interface":null}`)
	f.Add("Join", ``)
	f.Add("", `null`)
	fuzzProtocol(f, "/NetworkDriver.")
}

func FuzzIpamDriver(f *testing.F) {
	for _, m := range []string{"GetCapabilities", "GetDefaultAddressSpaces", "RequestPool", "ReleasePool", "RequestAddress", "ReleaseAddress"} {
		f.Add(m, `{"PoolID":"10.1.0.0/24","Pool":"","AddressSpace":"socketplane","Address":"","Options":null,"V6":false}`)
	}
	f.Add("RequestPool", `{"Pool":7}`)
	f.Add("ReleasePool", ``)
	fuzzProtocol(f, "/IpamDriver.")
}

// fuzzProtocol sends one request to a server whose state has a network, an endpoint and a pool. Every answer must
// be one JSON object, with an error in both keys if and only if its status isn't 200.
func fuzzProtocol(f *testing.F, prefix string) {
	f.Fuzz(func(t *testing.T, method, body string) {
		mem := newMemory()
		mem.networks["n1"], mem.endpoints["n1/e1"], mem.pools["10.1.0.0/24"] = true, false, 0
		s := plugin.New(mem, mem, plugin.Options{MaxBody: 4096})
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.URL = &url.URL{Path: prefix + method}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		var answer map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer == nil {
			t.Fatalf("%d %q is no JSON object: %v", w.Code, w.Body, err)
		}
		if w.Header().Get("Content-Type") != mimeType {
			t.Errorf("Content-Type %q", w.Header().Get("Content-Type"))
		}
		msg, _ := answer["Err"].(string)
		if failed := w.Code != 200; failed != (msg != "") || answer["Err"] != answer["Error"] {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if strings.Contains(msg, "defect") {
			t.Errorf("a panic: %s", msg)
		}
	})
}
