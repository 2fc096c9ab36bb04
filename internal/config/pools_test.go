package config

import (
	"fmt"
	"testing"
)

func TestAddressPools(t *testing.T) {
	for text, want := range map[string]string{
		"10.32.0.0/12:20":                "[{10.32.0.0/12 20}]",
		"10.32.0.0/12:20,fd00:1::/48:64": "[{10.32.0.0/12 20} {fd00:1::/48 64}]",
		"10.0.0.0/24:24, 10.0.2.0/24:28": "[{10.0.0.0/24 24} {10.0.2.0/24 28}]",
		"10.32.0.0/12":                   "",
		"10.32.0.0/12:11":                "",
		"10.32.0.0/12:31":                "",
		"10.32.0.1/12:20":                "",
		"10.32.0.0:20":                   "",
		"fd00:1::/48":                    "",
		"0.0.0.0/0:8":                    "",
		"127.0.0.0/8:24":                 "",
		"10.0.0.0/8:24,10.1.0.0/16:24":   "",
		"10.0.0.0/8:24,":                 "",
		"":                               "",
		"x":                              "",
		"10.0.0.0/8:x":                   "",
	} {
		c := Defaults()
		c.Name, c.AddressPools = "h", text
		err := c.Validate()
		if want == "" {
			if err == nil || len(c.Ranges()) > 0 {
				t.Errorf("%q is accepted", text)
			}
		} else if got := fmt.Sprint(c.Ranges()); err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", text, got, err, want)
		}
	}
}
