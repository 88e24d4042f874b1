package httpapi

import (
	"bytes"
	"context"
	"embed"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/keys"
	"github.com/mintmark/mintmark/internal/record"
)

// ConsoleGroup is the console's pages, on a listener of their own.
const ConsoleGroup Group = "console"

// consolePath is where the console's pages stand.
const consolePath = "/console/"

// ConsoleConfig says what the console shows, and to whom.
type ConsoleConfig struct {
	// Config is what API listeners take, but for their groups. Certificates counts for
	// ConsoleGroup.
	Config
	// Open shows it to everybody who reaches it: in development.
	Open bool
	// Hosts are the names, beside loopback ones, that a request may have as Host.
	Hosts []string

	Checks      []Check
	Service     func() ConsoleService
	Members     func() []ConsoleMember
	Expiries    func() []keys.Expiry
	Inventory   func(ctx context.Context) keys.Report
	Activity    *Activity
	Logs        DatabaseLogs
	OwnLog      int                // the number of the one that this process writes
	AuditFigure func() audit.Stats // of that one
	Changes     Changes
	Cards       ConsoleCards  // nil where the role issuer is not served
	PassRows    ConsolePasses // nil where the role passes is not served
}

// ConsoleService is what the running service says of itself.
type ConsoleService struct {
	Version string
	Started time.Time
	// Facts are what else there is to say, in order.
	Facts []ConsoleFact
}

// A ConsoleFact is a line of the page about the service.
type ConsoleFact struct{ Name, Value string }

// A ConsoleMember is an HSM member as it is now.
type ConsoleMember struct {
	Name, State   string
	Since         time.Time
	Cause         string    // of a state that is not ready
	LastSignature time.Time // zero for none
}

// console serves the pages. They are read from embedded templates, have no script, and load
// nothing but their style sheet.
type console struct {
	*server
	cfg   ConsoleConfig
	audit auditRoutes
	pages map[string]*template.Template
}

//go:embed console
var consoleFiles embed.FS

// A consolePage is an entry of the navigation.
type consolePage struct{ Path, Name string }

// consoleNavigation lists the pages in order, by their paths under consolePath.
var consoleNavigation = []consolePage{
	{"", "Overview"}, {"keys", "Keys"}, {"activity", "Activity"}, {"log", "Log"}, {"lookup", "Look-up"}, {"changes", "Changes"}, {"report", "Report"},
}

// ConsoleRoutes gives the console, for callers with the right viewConsole. Each page is GET
// and HEAD, and changes nothing; looking up a card or a wallet token is on record as it is
// when a client does it.
func ConsoleRoutes(cfg ConsoleConfig) func(gin.IRouter) {
	s := &server{cfg: cfg.Config, log: cfg.Log}
	h := &console{
		server: s, cfg: cfg, pages: consoleTemplates(),
		audit: auditRoutes{server: s, logs: cfg.Logs, own: cfg.OwnLog, last: cfg.Checkpoints},
	}
	return func(r gin.IRouter) {
		methods := []string{http.MethodGet, http.MethodHead}
		r.Match(methods, strings.TrimSuffix(consolePath, "/"), func(c *gin.Context) { c.Redirect(http.StatusSeeOther, consolePath) })
		g := r.Group(strings.TrimSuffix(consolePath, "/"), h.observe, recovering(cfg.Metrics, cfg.Log), h.closeWhenStopping, h.withDeadline, consoleHeaders, h.knowsHost)
		for _, file := range []struct{ name, mediaType string }{{"console.css", "text/css; charset=utf-8"}, {"icon.svg", "image/svg+xml"}} {
			content, err := consoleFiles.ReadFile("console/" + file.name)
			if err != nil {
				panic(err) // it is embedded
			}
			g.Match(methods, "/"+file.name, func(c *gin.Context) { c.Data(http.StatusOK, file.mediaType, content) })
		}
		g.Use(h.admit)
		for path, page := range map[string]gin.HandlerFunc{
			"/": h.overview, "/keys": h.keyList, "/keys/:name": h.key, "/activity": h.activity, "/lookup": h.lookup, "/changes": h.changeList, "/report": h.report,
			"/log": h.logPage, "/log/:entry": h.entry, "/log/:entry/proof": h.proof, "/log/:entry/line": h.line, "/checkpoint": h.checkpoint,
		} {
			g.Match(methods, path, page)
		}
	}
}

// NewConsole gives the handler of the console's own listener.
func NewConsole(cfg ConsoleConfig) http.Handler {
	engine := newEngine()
	engine.Use(withRequestID, secureHeaders)
	engine.GET("/", func(c *gin.Context) { c.Redirect(http.StatusSeeOther, consolePath) })
	ConsoleRoutes(cfg)(engine)
	return engine
}

// consoleHeaders say that a page needs nothing but its style sheet, runs nothing, tells
// nobody where it is, and is kept by no cache and shown in no frame.
func consoleHeaders(c *gin.Context) {
	secureHeaders(c)
	c.Header("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	c.Header("Referrer-Policy", "no-referrer")
	c.Header("Cross-Origin-Resource-Policy", "same-origin")
	c.Header("Cross-Origin-Opener-Policy", "same-origin")
}

// knowsHost refuses a request that names another host: that of a page whose name was made to
// resolve to this machine (DNS rebinding) could read what it gets.
func (h *console) knowsHost(c *gin.Context) {
	if !knownHost(c.Request, h.cfg.Hosts) {
		h.problemPage(c, problem{status: http.StatusMisdirectedRequest, name: "host", title: "Another host",
			detail: "Call the console by a loopback address, by the host of its listener, or by one of console.hosts."})
	}
}

// admit lets those in who may look.
func (h *console) admit(c *gin.Context) {
	if h.cfg.Open {
		return
	}
	who, err := h.authenticate(c, record.ViewConsole)
	if err == nil {
		err = h.permit(c, record.ViewConsole, who, access.ViewConsole)
	}
	if err != nil {
		h.failPage(c, err)
	}
}

// A consoleView is what every page has.
type consoleView struct {
	Title       string
	At          string // under which entry of the navigation
	Navigation  []consolePage
	Environment string
	Version     string
	Now         time.Time
	RequestID   string
	Data        any
}

// show answers with a page, whose template has its name.
func (h *console) show(c *gin.Context, page, title string, data any) {
	h.showAs(c, http.StatusOK, page, title, data)
}

func (h *console) showAs(c *gin.Context, status int, page, title string, data any) {
	v := consoleView{
		Title: title, Navigation: consoleNavigation, Environment: h.cfg.Environment, Version: h.cfg.Service().Version,
		Now: h.cfg.Now().UTC(), RequestID: requestID(c), Data: data,
	}
	v.At, _, _ = strings.Cut(strings.TrimPrefix(c.FullPath(), consolePath), "/")
	var b bytes.Buffer
	if err := h.pages[page].Execute(&b, v); err != nil { // our own templates and types
		h.log.ErrorContext(c, "console page not made", "page", page, "requestId", requestID(c), "error", err)
		c.AbortWithStatus(http.StatusInternalServerError)
		return
	}
	c.Data(status, "text/html; charset=utf-8", b.Bytes())
}

// failPage answers with the problem that err is, as a page, and logs what it does not say.
func (h *console) failPage(c *gin.Context, err error) {
	p := problemOf(err)
	if p.status >= 500 {
		h.logFailure(c, err)
	}
	if access.ReasonOf(err) != "" {
		p.detail = "The console is for clients with the right viewConsole: by a TLS client certificate on console.listener, or by a bearer token. docs/console.md says how a browser gets in."
	}
	h.problemPage(c, p)
}

func (h *console) problemPage(c *gin.Context, p problem) {
	if p.status == http.StatusUnauthorized {
		c.Header("WWW-Authenticate", "Bearer")
	}
	retryAfter(c, p.retry)
	c.Set(outcomeKey, p.name)
	h.showAs(c, p.status, "problem", p.title, map[string]any{"Status": p.status, "Detail": p.detail})
	c.Abort()
}

// consoleTemplates are the pages, each in the common layout.
var consoleTemplates = sync.OnceValue(func() map[string]*template.Template {
	layout := template.Must(template.New("layout.html").Funcs(consoleFuncs).ParseFS(consoleFiles, "console/layout.html", "console/chart.html"))
	all := map[string]*template.Template{}
	for _, name := range []string{"overview", "keys", "key", "activity", "log", "entry", "lookup", "changes", "report", "problem"} {
		all[name] = template.Must(template.Must(layout.Clone()).ParseFS(consoleFiles, "console/"+name+".html"))
	}
	return all
})
