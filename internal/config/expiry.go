package config

import (
	"errors"
	"strings"
	"time"
)

// expirySettings are those that say when what nobody needs is removed.
func expirySettings() []Setting {
	return []Setting{
		duration("host-expiry", "how long a host's agent may be away until the host is removed; 0 for ever",
			func(c *Config) *time.Duration { return &c.HostExpiry }, true),
		duration("garbage-grace", "how long records must have been needed by nothing until they are removed; less than 40s holds for what Docker has forgotten, too",
			func(c *Config) *time.Duration { return &c.GarbageGrace }, false),
	}
}

// leastExpiry is the shortest time after which anything is removed: less is never meant.
const leastExpiry = time.Second

// duration is a setting that is a time of at least leastExpiry, or 0 where that means never.
func duration(flag, usage string, field func(*Config) *time.Duration, never bool) Setting {
	wrong := errors.New("a time of at least 1s, as in 5m")
	if never {
		wrong = errors.New("a time of at least 1s, as in 24h, or 0")
	}
	return Setting{
		Flag: flag, Env: []string{envPrefix + strings.ReplaceAll(strings.ToUpper(flag), "-", "_")},
		Usage: usage,
		get:   func(c *Config) string { return field(c).String() },
		set: func(c *Config, v string) (err error) {
			if *field(c), err = time.ParseDuration(v); err != nil {
				return wrong
			}
			return nil
		},
		check: func(c *Config) error {
			if d := *field(c); d < leastExpiry && !(never && d == 0) {
				return wrong
			}
			return nil
		},
	}
}
