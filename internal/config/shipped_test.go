package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/mintmark/mintmark/internal/config"
)

// What the package and the chart bring along is in order, but for the files that it names.
func TestShippedConfigurationsAreInOrder(t *testing.T) {
	deploy := filepath.Join("..", "..", "deploy")
	text, err := os.ReadFile(filepath.Join(deploy, "helm", "mintmark", "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var values struct{ Config string }
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(deploy, "mintmark.yaml"), file(t, values.Config)} {
		c, err := config.Load(path, nil)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if c.Environment != config.Production {
			t.Errorf("%s is of environment %q", path, c.Environment)
		}
	}
}
