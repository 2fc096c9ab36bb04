package config_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/config"
)

func TestClusterSettings(t *testing.T) {
	tests := []struct {
		flag      string
		good, bad []string
	}{
		{"store", []string{"auto", "cluster"}, []string{"Cluster"}},
		{"consul-binary", []string{"", "/usr/bin/consul"}, []string{"consul", "./consul"}},
		{"cluster-port", []string{"1", "4785", "4790", "65532"}, []string{"", "0", "65533", "65536", "x", "4786", "4789"}},
		{"join", []string{"", "192.0.2.1", "192.0.2.1:4780, host.example", "2001:db8::1", "[2001:db8::1]:4780"},
			[]string{",", "a,", "a b", "a:0", "a:x", "http://a", ":4780", "a/b"}},
		{"join-token-file", []string{"", "/etc/token"}, []string{"token"}},
		{"multicast", []string{"true", "false", "0"}, []string{"", "maybe"}},
		{"server-grace", []string{"1s", "5m"}, []string{"", "0", "999ms", "-5s", "30"}},
	}
	for _, tt := range tests {
		t.Run(tt.flag, func(t *testing.T) {
			for _, v := range tt.good {
				if _, err := config.Load(sources(values{tt.flag: v, "name": "a"}, nil)); err != nil {
					t.Errorf("%q: %v", v, err)
				}
			}
			for _, v := range tt.bad {
				_, err := config.Load(sources(values{tt.flag: v, "name": "a"}, nil))
				if err == nil || !strings.Contains(err.Error(), "--"+tt.flag) {
					t.Errorf("%q: error %v, want one that names --%s", v, err, tt.flag)
				}
			}
		})
	}
}

func TestJoinAddresses(t *testing.T) {
	cfg, err := config.Load(sources(values{"join": "192.0.2.1, host.example:99,2001:db8::1,[2001:db8::2],[2001:db8::3]:7", "cluster-port": "5000",
		"name": "a"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"192.0.2.1:5000", "host.example:99", "[2001:db8::1]:5000", "[2001:db8::2]:5000", "[2001:db8::3]:7"}
	if got := cfg.JoinAddresses(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := config.Defaults().JoinAddresses(); got != nil {
		t.Errorf("nothing gives %q", got)
	}
}

func TestReadToken(t *testing.T) {
	files := map[string]string{"/t": "sp1.a.b.c\n", "/empty": " \n", "/two": "two words"}
	read := func(name string) ([]byte, error) {
		text, ok := files[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return []byte(text), nil
	}
	tests := []struct {
		name, env, file, want string
		absent, wrong         bool
	}{
		{name: "none"},
		{name: "environment", env: "sp1.x\n", want: "sp1.x"},
		{name: "environment wins, and the file may be away", env: "sp1.x", file: "/absent", want: "sp1.x"},
		{name: "file", file: "/t", want: "sp1.a.b.c"},
		{name: "file is not there", file: "/absent", absent: true},
		{name: "file is empty", file: "/empty", wrong: true},
		{name: "file is something else", file: "/two", wrong: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := config.Load(sources(values{"join-token-file": tt.file, "name": "a"}, values{"SOCKETPLANE_JOIN_TOKEN": tt.env}))
			if err != nil {
				t.Fatal(err)
			}
			got, err := cfg.ReadToken(read)
			if got.Reveal() != tt.want || errors.Is(err, fs.ErrNotExist) != tt.absent || (err != nil) != (tt.absent || tt.wrong) {
				t.Errorf("token %q, error %v", got.Reveal(), err)
			}
			if err != nil && strings.Contains(err.Error(), "words") {
				t.Errorf("the error shows what the file holds: %v", err)
			}
		})
	}
}
