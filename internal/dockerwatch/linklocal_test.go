package dockerwatch

import (
	"encoding/json"
	"fmt"
	"testing"
)

// TestLinkLocalIsRead: what Docker answers of a container, in the forms of several engines, and what it might.
func TestLinkLocalIsRead(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                  "[]",
		`{"IPAMConfig":null}`: "[]",
		`{"IPAMConfig":{}}`:   "[]",
		`{"IPAMConfig":{"IPv4Address":"10.1.0.2","LinkLocalIPs":["169.254.1.2","fe80::5"]}}`: "[169.254.1.2 fe80::5]",
		`{"IPAMConfig":{"LinkLocalIPs":["10.1.0.9","x","","::ffff:169.254.1.3"]}}`:           "[169.254.1.3]",
	} {
		var n wireEndpoint
		if err := json.Unmarshal([]byte(text), &n); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got := fmt.Sprint(n.linkLocal()); got != want {
			t.Errorf("%s gives %s, want %s", text, got, want)
		}
	}
}
