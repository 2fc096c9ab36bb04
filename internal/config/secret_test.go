package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/config"
)

const token = "5ecre7"

func TestSecretIsNeverPrinted(t *testing.T) {
	secret := config.NewSecret(token)
	cfg := config.Defaults()
	cfg.ConsulToken = secret
	hidden := struct{ inner config.Secret }{secret} // fmt cannot call methods here
	forms := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%10s", "%-5v", "%T"} {
		forms["secret "+verb] = fmt.Sprintf(verb, secret)
		forms["pointer "+verb] = fmt.Sprintf(verb, &secret)
		forms["config "+verb] = fmt.Sprintf(verb, cfg)
		forms["hidden "+verb] = fmt.Sprintf(verb, hidden)
		forms["slice "+verb] = fmt.Sprintf(verb, []config.Secret{secret})
	}
	forms["json"] = marshal(t, cfg)
	forms["json map"] = marshal(t, map[config.Secret]int{secret: 1})
	forms["slog text"] = logged(func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) }, secret, cfg)
	forms["slog json"] = logged(func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) }, secret, cfg)
	for name, got := range forms {
		if strings.Contains(got, token) || strings.Contains(strings.ToLower(got), fmt.Sprintf("%x", token)) {
			t.Errorf("%s shows the secret: %s", name, got)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if got := fmt.Sprintf(verb, secret); got != "***" {
			t.Errorf("%s gives %q, want ***", verb, got)
		}
	}
	if got := marshal(t, secret); got != `"***"` {
		t.Errorf("JSON gives %s", got)
	}
}

func TestSecretZero(t *testing.T) {
	var s config.Secret
	if s.Reveal() != "" || s.IsSet() || s.String() != "***" {
		t.Errorf("zero secret: %q, %v, %s", s.Reveal(), s.IsSet(), s)
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func logged(handler func(*bytes.Buffer) slog.Handler, args ...any) string {
	var out bytes.Buffer
	log := slog.New(handler(&out))
	for _, a := range args {
		log.Info("m", "value", a)
	}
	return out.String()
}

// TestSecretsFindsAll: whatever setting is a secret is among those that texts are searched for.
func TestSecretsFindsAll(t *testing.T) {
	planted := 0
	env := map[string]string{}
	for _, s := range config.Settings() {
		if s.Value(config.Defaults()) == "***" {
			planted++
			env[s.Env[0]] = fmt.Sprintf("planted-%d", planted)
		}
	}
	cfg, err := config.Load(config.Sources{Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
	if err != nil {
		t.Fatal(err)
	}
	got := cfg.Secrets()
	if planted == 0 || len(got) != planted {
		t.Errorf("secrets %q of %d planted", got, planted)
	}
	for name, value := range env {
		if !slices.Contains(got, value) {
			t.Errorf("the secret of %s is not found", name)
		}
	}
}
