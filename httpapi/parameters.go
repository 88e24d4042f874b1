package httpapi

import (
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"
)

// unboundParameter answers a request whose parameters the generated code cannot take. One that
// stands twice is the caller's mistake; any other, such as an empty part of the path, names
// nothing.
func unboundParameter(c *gin.Context, _ error, _ int) {
	if oncePerParameter(c); !c.IsAborted() {
		notFound.write(c)
	}
}

// oncePerParameter refuses a request that says something twice. Routes that are not generated
// have it before them.
func oncePerParameter(c *gin.Context) {
	if standsTwice(c.Request) {
		malformed("A parameter of the query, or If-Match, stands twice.").write(c)
	}
}

// standsTwice looks at the parameters of issuers and operators: Apple's table of what devices
// are answered has nothing for theirs.
func standsTwice(r *http.Request) bool {
	query := r.URL.Query()
	twice := func(name string) bool { return len(query[name]) > 1 }
	return slices.ContainsFunc([]string{"groupBy", "log", "from", "limit", "tenant"}, twice) || len(r.Header.Values("If-Match")) > 1
}
