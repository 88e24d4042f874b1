package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// ErrAbsent is returned where there is no configuration file.
var ErrAbsent error = absent{}

type absent struct{}

func (absent) Error() string { return "there is no such file" }

// Is makes it what package os calls it, too.
func (absent) Is(target error) bool { return target == fs.ErrNotExist }

// maxFile bounds a configuration file in bytes.
const maxFile = 1 << 20

// Load reads the file at path, lays the environment (as of os.Environ) over it, fills
// in defaults and checks the result. The error of a bad configuration names everything
// that is wrong at once.
func Load(path string, environ []string) (*Config, error) { return LoadFor(path, environ, nil) }

// LoadFor is Load with other roles than the file's, unless nil.
func LoadFor(path string, environ, roles []string) (*Config, error) {
	c, err := load(path, environ, roles)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

func load(path string, environ, roles []string) (*Config, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrAbsent
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	var c Config
	dec := yaml.NewDecoder(bytes.NewReader(b), yaml.Strict())
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return nil, placed(b, err)
	}
	var rest any
	if err := dec.Decode(&rest); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	wrong := c.overlay(environ)
	if roles != nil {
		c.Roles = roles
	}
	sum := sha256.Sum256(b)
	c.digest = hex.EncodeToString(sum[:])
	c.defaults()
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	c.resolve(filepath.Dir(abs))
	return &c, errors.Join(wrong, c.Check())
}

// invalidDuration is how package time speaks of a value.
var invalidDuration = regexp.MustCompile(`^time: .*duration "(.*)"$`)

// placed gives the error of a duration its place in the file, as the YAML library's other
// errors have it: of this one it says none.
func placed(text []byte, err error) error {
	said := invalidDuration.FindStringSubmatch(err.Error())
	file, broken := parser.ParseBytes(text, 0)
	if said == nil || broken != nil {
		return err
	}
	for _, doc := range file.Docs {
		for _, value := range ast.Filter(ast.StringType, doc.Body) {
			if t := value.GetToken(); t.Value == said[1] {
				return fmt.Errorf("[%d:%d] %w", t.Position.Line, t.Position.Column, err)
			}
		}
	}
	return err
}

// resolve takes relative paths from the folder of the file.
func (c *Config) resolve(dir string) {
	paths := []*string{&c.Keyring, &c.Store.SQLite, &c.Store.Postgres.DSNFile, &c.DataDir, &c.PushProvisioning.TestRootFile, &c.Outbound.CAFile, &c.Passes.Push.CAFile,
		&c.PushProvisioning.Connector.NoticesFile}
	for _, l := range c.apis() {
		if l.TLS != nil {
			paths = append(paths, &l.TLS.CertificateFile, &l.TLS.KeyFile)
		}
	}
	for i := range c.HSM.Members {
		paths = append(paths, &c.HSM.Members[i].Module, &c.HSM.Members[i].PINFile)
	}
	for i := range c.PushProvisioning.Schemes {
		paths = append(paths, &c.PushProvisioning.Schemes[i].PublicKeyFile)
	}
	for i := range c.PushProvisioning.Connector.Keys {
		paths = append(paths, &c.PushProvisioning.Connector.Keys[i].PublicKeyFile)
	}
	for i := range c.PushProvisioning.Statements {
		paths = append(paths, &c.PushProvisioning.Statements[i].PublicKeyFile)
	}
	for i := range c.Audit.Anchors {
		paths = append(paths, &c.Audit.Anchors[i].File, &c.Audit.Anchors[i].CAFile)
	}
	for i := range c.Clients {
		for j := range c.Clients[i].Keys {
			paths = append(paths, &c.Clients[i].Keys[j].PublicKeyFile)
		}
		if cc := c.Clients[i].Certificate; cc != nil {
			paths = append(paths, &cc.CAFile, &cc.CRLFile)
		}
	}
	for i := range c.Passes.Push.Endpoints {
		paths = append(paths, &c.Passes.Push.Endpoints[i].AuthorizationFile)
	}
	for _, p := range paths {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
}

const envPrefix = "MINTMARK_"

// overlay sets scalar fields from the environment. A variable with the prefix that
// names no field is kept for a warning, not refused: orchestrators set such variables
// by themselves (Kubernetes: MINTMARK_SERVICE_HOST).
func (c *Config) overlay(environ []string) error {
	defer c.openSections()()
	fields := map[string]reflect.Value{}
	collect(reflect.ValueOf(c).Elem(), "MINTMARK", fields)
	var wrong []error
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		f, ok := fields[name]
		if !ok {
			c.ignored = append(c.ignored, name)
			continue
		}
		if err := set(f, value); err != nil {
			wrong = append(wrong, fmt.Errorf("environment: %s: %w", name, err))
		}
	}
	slices.Sort(c.ignored)
	return errors.Join(wrong...)
}

// openSections makes the sections that may be absent, so that the environment alone can
// give them. What it gives takes those away again in which nothing was set.
func (c *Config) openSections() (tidy func()) {
	tls := openSection(&c.API.TLS)
	own := openSection(&c.MerchantAPI)
	ownTLS := openSection(&c.MerchantAPI.TLS)
	return func() {
		tls()
		ownTLS()
		own()
	}
}

func openSection[T any](at **T) (tidy func()) {
	if *at != nil {
		return func() {}
	}
	*at = new(T)
	return func() {
		if reflect.ValueOf(*at).Elem().IsZero() {
			*at = nil
		}
	}
}

// Variables lists the variables of the environment that set a field, sorted.
func Variables() []string {
	var c Config
	defer c.openSections()()
	fields := map[string]reflect.Value{}
	collect(reflect.ValueOf(&c).Elem(), "MINTMARK", fields)
	return slices.Sorted(maps.Keys(fields))
}

// collect gives the scalar fields of a struct by their variable's name.
func collect(v reflect.Value, prefix string, into map[string]reflect.Value) {
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag.Get("yaml")
		if tag == "" {
			continue
		}
		name := prefix + "_" + snake(tag)
		switch f := v.Field(i); f.Kind() {
		case reflect.Struct:
			collect(f, name, into)
		case reflect.Pointer:
			if !f.IsNil() && f.Elem().Kind() == reflect.Struct {
				collect(f.Elem(), name, into)
			}
		case reflect.String, reflect.Int, reflect.Int64, reflect.Bool:
			into[name] = f
		}
	}
}

func set(f reflect.Value, value string) error {
	switch {
	case f.Type() == reflect.TypeFor[time.Duration]():
		d, err := time.ParseDuration(value)
		if err != nil {
			return errors.New("must be a duration, such as 15s")
		}
		f.SetInt(int64(d))
	case f.Kind() == reflect.String:
		f.SetString(value)
	case f.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return errors.New("must be true or false")
		}
		f.SetBool(b)
	default:
		n, err := strconv.Atoi(value)
		if err != nil {
			return errors.New("must be a whole number")
		}
		f.SetInt(int64(n))
	}
	return nil
}

// snake turns camelCase into UPPER_SNAKE; a run of capitals is one word.
func snake(s string) string {
	var b strings.Builder
	before := 'A'
	for _, r := range s {
		if unicode.IsUpper(r) && !unicode.IsUpper(before) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToUpper(r))
		before = r
	}
	return b.String()
}
