package config_test

import (
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/config"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		flag      string
		good, bad []string
	}{
		{"consul-addr",
			[]string{"", "127.0.0.1:8500", "consul.example:8500", "http://h", "https://[::1]:8501", "unix:///run/c.sock"},
			[]string{"h", "h:0", "ftp://h:1", "http://", "http://u:p@h:1", "unix://rel", "a b:1"}},
		{"docker-host",
			[]string{"none", "unix:///var/run/docker.sock", "tcp://127.0.0.1:2375", "tcp://[::1]:2375"},
			[]string{"", "/var/run/docker.sock", "unix://docker.sock", "tcp://h", "ssh://h", "npipe:////./pipe/d"}},
		{"ovsdb", []string{"unix:/run/db.sock"}, []string{"", "/run/db.sock", "unix:db.sock", "tcp:127.0.0.1:6640"}},
		{"advertise", []string{"", "192.0.2.1", "2001:db8::1", "fe80::1"},
			[]string{"0.0.0.0", "127.0.0.1", "::1", "224.0.0.1", "fe80::1%eth0", "host", "192.0.2.1/24"}},
		{"metrics-addr", []string{"", "127.0.0.1:9477", ":9477", "[::]:9477"}, []string{"9477", "h:http", "h:70000"}},
		{"name", []string{"alpha", "a.example.org", "Host_1"}, []string{"a b", "ä", "a/b", strings.Repeat("a", 254)}},
		{"plugin-socket", []string{"/run/p.sock"}, []string{"", "p.sock", "/run/"}},
		{"log-level", []string{"debug", "INFO", "Warn", "error"}, []string{"", "info+1", "trace"}},
		{"vxlan-port", []string{"1", "65535"}, []string{"", "-1", "0", "65536", "4789 "}},
	}
	for _, tt := range tests {
		t.Run(tt.flag, func(t *testing.T) {
			for _, v := range tt.good {
				if _, err := config.Load(sources(values{tt.flag: v}, nil)); err != nil {
					t.Errorf("%q: %v", v, err)
				}
			}
			for _, v := range tt.bad {
				_, err := config.Load(sources(values{tt.flag: v}, nil))
				if err == nil || !strings.Contains(err.Error(), "--"+tt.flag) {
					t.Errorf("%q: error %v, want one that names --%s", v, err, tt.flag)
				}
			}
		})
	}
}

// TestSettings holds what every row must have, whoever adds one.
func TestSettings(t *testing.T) {
	flags, envs := map[string]bool{}, map[string]bool{}
	for _, s := range config.Settings() {
		if len(s.Env) == 0 || s.Usage == "" {
			t.Fatalf("row %+v has no variable or no usage", s.Flag)
		}
		if s.Flag != "" {
			want := "SOCKETPLANE_" + strings.ToUpper(strings.ReplaceAll(s.Flag, "-", "_"))
			if s.Env[0] != want {
				t.Errorf("--%s has variable %s, want %s", s.Flag, s.Env[0], want)
			}
			if flags[s.Flag] {
				t.Errorf("--%s is there twice", s.Flag)
			}
			flags[s.Flag] = true
		}
		for _, e := range s.Env {
			if envs[e] {
				t.Errorf("%s is there twice", e)
			}
			envs[e] = true
		}
		// A default given by hand must be the same as none at all.
		if s.Flag != "" && s.Flag != "name" {
			cfg, err := config.Load(sources(values{s.Flag: s.Default(), "name": "a"}, nil))
			want := config.Defaults()
			want.Name = "a"
			if err != nil || cfg != want {
				t.Errorf("--%s=%s is not the default: %v", s.Flag, s.Default(), err)
			}
		}
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct {
		name, addr string
		want       int
	}{
		{"off", "", 0}, {"loopback", "127.0.0.1:1", 0}, {"loopback by name", "localhost:1", 0}, {"IPv6 loopback", "[::1]:1", 0},
		{"all addresses", ":1", 1}, {"an address", "192.0.2.1:1", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config.Defaults()
			c.MetricsAddr = tt.addr
			if got := c.Warnings(); len(got) != tt.want {
				t.Errorf("warnings %q, want %d", got, tt.want)
			}
		})
	}
}

// FuzzLoad holds that no value panics, and that what is loaded is valid.
func FuzzLoad(f *testing.F) {
	for _, s := range config.Settings() {
		f.Add(s.Flag, s.Default())
	}
	f.Add("docker-host", "tcp://[::1]:1")
	f.Fuzz(func(t *testing.T, flag, value string) {
		cfg, err := config.Load(sources(values{flag: value, "name": "a"}, nil))
		if err != nil {
			return
		}
		if err := cfg.Validate(); err != nil {
			t.Errorf("loaded, then refused: %v", err)
		}
	})
}
