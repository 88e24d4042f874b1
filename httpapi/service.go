package httpapi

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"
)

// ServiceRoute gives GET /v1/service on the admin listener: what the running process is made
// from, what keeps its memory to itself, and how many ephemeral keys it made and destroyed. The
// audit report reads it.
func ServiceRoute(state func(context.Context) any) func(gin.IRouter) {
	return func(r gin.IRouter) {
		r.GET("/v1/service", func(c *gin.Context) {
			writeJSON(c, http.StatusOK, "application/json", state(c.Request.Context()))
		})
	}
}
