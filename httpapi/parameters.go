package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// unboundParameter answers a request whose parameters the generated code cannot take. One that
// stands twice is the caller's mistake; any other, such as an empty part of the path, names
// nothing.
func unboundParameter(c *gin.Context, _ error, _ int) {
	if standsTwice(c.Request) {
		malformed("A parameter of the query, or If-Match, stands twice.").write(c)
		return
	}
	notFound.write(c)
}

// standsTwice looks at the parameters of issuers and operators: Apple's table of what devices
// are answered has nothing for theirs.
func standsTwice(r *http.Request) bool {
	query := r.URL.Query()
	return len(query["groupBy"]) > 1 || len(query["log"]) > 1 || len(r.Header.Values("If-Match")) > 1
}
