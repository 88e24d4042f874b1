package httpapi

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"

	"github.com/mintmark/mintmark/internal/keys"
)

// KeyRoutes gives the inventory of the keys on the admin listener:
//
//	GET /v1/keys         every key, with its attributes as every member has them now (JSON)
//	GET /v1/keys/{name}  one of them; 404 if the keyring has none of this name
//
// It costs the tokens some twenty calls a key. Of the public JWK set it is the inside.
func KeyRoutes(read func(ctx context.Context) keys.Report) func(gin.IRouter) {
	return func(r gin.IRouter) {
		r.GET("/v1/keys", func(c *gin.Context) {
			writeOrdered(c, read(c.Request.Context()))
		})
		r.GET("/v1/keys/:name", func(c *gin.Context) {
			for _, k := range read(c.Request.Context()).Keys {
				if k.Name == c.Param("name") {
					writeOrdered(c, k)
					return
				}
			}
			notFound.write(c)
		})
	}
}

// writeOrdered answers with JSON whose members are in the same order each time, so that two
// inventories can be compared.
func writeOrdered(c *gin.Context, body any) {
	b, err := json.Marshal(body, json.Deterministic(true))
	if err != nil { // our own types always encode
		c.AbortWithStatus(http.StatusInternalServerError)
		return
	}
	c.Data(http.StatusOK, "application/json", b)
}
