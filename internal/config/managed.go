package config

import "strings"

// Paths of the managed plugin, in its own file system. It sees the host's /run below HostRun.
const (
	HostRun = "/host/run"
	// ManagedV1Socket is the host's place for plugins with a plain name.
	ManagedV1Socket = HostRun + "/docker/plugins/socketplane.sock"
	// ManagedOVSDB is the host's Open vSwitch.
	ManagedOVSDB = "unix:" + HostRun + "/openvswitch/db.sock"
	// OwnOVSDB is the Open vSwitch that the plugin runs itself.
	OwnOVSDB = "unix:/run/openvswitch/db.sock"
)

// managedDefaults are by variable. They are not in config.json, as Docker keeps an older version's values when it upgrades.
var managedDefaults = map[string]string{
	envPrefix + "ADMIN_SOCKET": HostRun + "/socketplane/agent.sock",
	envPrefix + "OVSDB":        ManagedOVSDB,
	envPrefix + "DOCKER_HOST":  "unix://" + HostRun + "/docker.sock",
}

// Managed is env for an agent that is Docker's managed plugin: what is not set has the plugin's defaults.
func Managed(env func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if v, ok := env(name); ok && strings.TrimSpace(v) != "" {
			return v, true
		}
		v, ok := managedDefaults[name]
		return v, ok
	}
}
