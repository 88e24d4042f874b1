package httpapi

import (
	"compress/gzip"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"sync"

	"github.com/gin-gonic/gin"
	"github.com/goccy/go-yaml"
	"github.com/swaggest/swgui/v5/static"
)

// description is the contract as it is served: the very file that types and routes were
// generated from.
//
//go:embed openapi.yaml
var description []byte

var descriptionJSON = sync.OnceValues(func() ([]byte, error) { return yaml.YAMLToJSON(description) })

// GetDescription is GET /openapi.yaml.
func (*server) GetDescription(c *gin.Context) { writeDescription(c) }

// GetDescriptionAsJSON is GET /openapi.json.
func (*server) GetDescriptionAsJSON(c *gin.Context) { writeDescriptionAsJSON(c) }

// DescriptionRoutes gives the description, and the page that shows it, on the admin listener:
//
//	GET /openapi.yaml  the description
//	GET /openapi.json  the same
//	GET /docs/         the page
func DescriptionRoutes() func(gin.IRouter) {
	return func(r gin.IRouter) {
		r.GET("/openapi.yaml", writeDescription)
		r.GET("/openapi.json", writeDescriptionAsJSON)
		docsRoutes(r)
	}
}

func writeDescription(c *gin.Context) {
	c.Data(http.StatusOK, "application/yaml", description) // RFC 9512
}

func writeDescriptionAsJSON(c *gin.Context) {
	b, err := descriptionJSON()
	if err != nil { // our own text always converts
		c.AbortWithStatus(http.StatusInternalServerError)
		return
	}
	c.Data(http.StatusOK, "application/json", b)
}

// page is what of the documentation page is ours.
//
//go:embed docs/index.html docs/init.js
var page embed.FS

// docsPolicy lets the page load what stands beside it, and ask this listener; nothing inline
// runs. The images that Swagger UI's style sheet has are data.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// docsFiles are the names under /docs/ beside the page itself. Swagger UI's come out of its
// module, in gzip.
var docsFiles = map[string]func() ([]byte, error){
	"init.js":              sync.OnceValues(func() ([]byte, error) { return page.ReadFile("docs/init.js") }),
	"swagger-ui.css":       sync.OnceValues(unzipped("swagger-ui.css.gz")),
	"swagger-ui-bundle.js": sync.OnceValues(unzipped("swagger-ui-bundle.js.gz")),
	"favicon-32x32.png":    sync.OnceValues(func() ([]byte, error) { return static.FS.ReadFile("favicon-32x32.png") }),
}

func unzipped(name string) func() ([]byte, error) {
	return func() ([]byte, error) {
		f, err := static.FS.Open(name)
		if err != nil {
			return nil, fmt.Errorf("docs page: %w", err)
		}
		return unzip(f)
	}
}

func unzip(f fs.File) (_ []byte, err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("docs page: %w", err)
	}
	return io.ReadAll(z)
}

// docsRoutes gives the page that shows the description: Swagger UI, from this process alone.
func docsRoutes(r gin.IRouter) {
	r.GET("/docs", func(c *gin.Context) { c.Redirect(http.StatusPermanentRedirect, "/docs/") })
	r.GET("/docs/", func(c *gin.Context) {
		b, err := page.ReadFile("docs/index.html")
		writePage(c, "text/html; charset=utf-8", b, err)
	})
	for name, read := range docsFiles {
		mediaType := mime.TypeByExtension(path.Ext(name))
		r.GET("/docs/"+name, func(c *gin.Context) {
			b, err := read()
			writePage(c, mediaType, b, err)
		})
	}
}

func writePage(c *gin.Context, mediaType string, content []byte, err error) {
	if err != nil { // what is embedded can always be read
		c.AbortWithStatus(http.StatusInternalServerError)
		return
	}
	c.Header("Content-Security-Policy", docsPolicy)
	c.Header("Referrer-Policy", "no-referrer")
	c.Data(http.StatusOK, mediaType, content)
}
