package config_test

import (
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/config"
)

type values map[string]string

func (v values) get(name string) (string, bool) { s, ok := v[name]; return s, ok }

func sources(flags, env values) config.Sources {
	return config.Sources{Flag: flags.get, Env: env.get}
}

func TestLoad(t *testing.T) {
	base := values{"name": "alpha"} // the machine's own name does not matter here
	tests := []struct {
		name       string
		flags, env values
		want       func(*config.Config)
	}{
		{"defaults", nil, nil, func(*config.Config) {}},
		{"environment over default", nil, values{"SOCKETPLANE_VXLAN_PORT": "4790"},
			func(c *config.Config) { c.VXLANPort = 4790 }},
		{"flag over environment", values{"vxlan-port": "8472"}, values{"SOCKETPLANE_VXLAN_PORT": "4790"},
			func(c *config.Config) { c.VXLANPort = 8472 }},
		{"wrong environment below a flag does no harm", values{"store": "bolt"}, values{"SOCKETPLANE_STORE": "x"},
			func(c *config.Config) { c.Store = config.StoreBolt }},
		{"empty variable is not set", nil, values{"SOCKETPLANE_STORE": "", "DOCKER_HOST": " "}, func(*config.Config) {}},
		{"empty flag is set", values{"metrics-addr": ""}, values{"SOCKETPLANE_METRICS_ADDR": "127.0.0.1:9"},
			func(*config.Config) {}},
		{"Docker's and Consul's own variables", nil,
			values{"DOCKER_HOST": "tcp://127.0.0.1:2375", "CONSUL_HTTP_ADDR": "https://consul:8501"},
			func(c *config.Config) { c.DockerHost = "tcp://127.0.0.1:2375"; c.ConsulAddr = "https://consul:8501" }},
		{"ours over theirs", nil, values{"DOCKER_HOST": "tcp://127.0.0.1:2375", "SOCKETPLANE_DOCKER_HOST": "none"},
			func(c *config.Config) { c.DockerHost = config.DockerNone }},
		{"every other flag", values{"advertise": "::ffff:10.0.0.1", "tunnel": "kernel", "log-level": "DEBUG",
			"log-format": "json", "state-dir": "/s", "plugin-socket": "/p.sock", "admin-socket": "/a.sock",
			"ovsdb": "unix:/o", "consul-addr": "unix:///c"}, nil,
			func(c *config.Config) {
				c.Advertise = netip.MustParseAddr("10.0.0.1")
				c.Tunnel, c.LogLevel, c.LogFormat = config.TunnelKernel, slog.LevelDebug, config.LogJSON
				c.StateDir, c.PluginSocket, c.AdminSocket = "/s", "/p.sock", "/a.sock"
				c.OVSDB, c.ConsulAddr = "unix:/o", "unix:///c"
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			flags := values{}
			for _, m := range []values{base, tt.flags} {
				for k, v := range m {
					flags[k] = v
				}
			}
			got, err := config.Load(sources(flags, tt.env))
			if err != nil {
				t.Fatal(err)
			}
			want := config.Defaults()
			want.Name = "alpha"
			tt.want(&want)
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestLoadTokenFromEnvironmentOnly(t *testing.T) {
	tests := []struct {
		name string
		env  values
		want string
	}{
		{"none", nil, ""},
		{"Consul's variable", values{"CONSUL_HTTP_TOKEN": "theirs\n"}, "theirs"},
		{"ours wins", values{"CONSUL_HTTP_TOKEN": "theirs", "SOCKETPLANE_CONSUL_TOKEN": "ours"}, "ours"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := config.Load(sources(values{"consul-token": "flag", "": "flag"}, tt.env))
			if err != nil {
				t.Fatal(err)
			}
			if got := cfg.ConsulToken.Reveal(); got != tt.want || cfg.ConsulToken.IsSet() != (tt.want != "") {
				t.Errorf("token %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	long := "/" + strings.Repeat("x", 107)
	tests := []struct {
		name       string
		flags, env values
		want       string // all of it; empty means no error
	}{
		{"store", nil, values{"SOCKETPLANE_STORE": "etcd"},
			`SOCKETPLANE_STORE: "etcd" is not auto, consul, cluster or bolt: set --store or SOCKETPLANE_STORE`},
		{"tunnel", values{"tunnel": "gre"}, nil, `--tunnel: "gre" is not auto, ovs or kernel: set --tunnel or SOCKETPLANE_TUNNEL`},
		{"Docker's variable is named", nil, values{"DOCKER_HOST": "ssh://root@h"},
			`DOCKER_HOST: "ssh://root@h" is not unix://PATH, tcp://HOST:PORT or "none": set --docker-host or SOCKETPLANE_DOCKER_HOST`},
		{"port zero", values{"vxlan-port": "0"}, nil,
			`--vxlan-port: "0" is not a UDP port from 1 to 65535: set --vxlan-port or SOCKETPLANE_VXLAN_PORT`},
		{"port too large", values{"vxlan-port": "65536"}, nil,
			`--vxlan-port: "65536" is not a UDP port from 1 to 65535: set --vxlan-port or SOCKETPLANE_VXLAN_PORT`},
		{"log level", values{"log-level": "loud"}, nil,
			`--log-level: "loud" is not debug, info, warn or error: set --log-level or SOCKETPLANE_LOG_LEVEL`},
		{"two at once", values{"log-format": "xml", "state-dir": "rel"}, nil,
			`--state-dir: "rel" is not an absolute path: set --state-dir or SOCKETPLANE_STATE_DIR` + "\n" +
				`--log-format: "xml" is not text or json: set --log-format or SOCKETPLANE_LOG_FORMAT`},
		{"one socket for both", values{"admin-socket": "/run/a", "plugin-socket": "/run/a"}, nil,
			`--admin-socket: "/run/a" is not a path other than that of --plugin-socket: set --admin-socket or SOCKETPLANE_ADMIN_SOCKET`},
		{"socket path too long", values{"admin-socket": long}, nil,
			`--admin-socket: "` + long + `" is not an absolute path of at most 107 bytes: set --admin-socket or SOCKETPLANE_ADMIN_SOCKET`},
		{"a bad token stays secret", nil, values{"CONSUL_HTTP_TOKEN": "two words"},
			`CONSUL_HTTP_TOKEN: "***" is not printable ASCII without spaces: set SOCKETPLANE_CONSUL_TOKEN`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Load(sources(tt.flags, tt.env))
			if err == nil {
				t.Fatalf("no error, want %s", tt.want)
			}
			if err.Error() != tt.want {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
			if e := (*config.Error)(nil); !errors.As(err, &e) {
				t.Errorf("%T is no *config.Error", err)
			}
		})
	}
}

func TestLoadOnlyNamedSettings(t *testing.T) {
	env := values{"SOCKETPLANE_STORE": "wrong", "SOCKETPLANE_ADMIN_SOCKET": "/a.sock"}
	cfg, err := config.Load(sources(nil, env), "admin-socket")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.AdminSocket != "/a.sock" || cfg.Store != config.StoreAuto {
		t.Errorf("got %+v", cfg)
	}
}
