package httpapi

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxBody bounds a request body in bytes.
const maxBody = 64 << 10

// bodyError is a body that could not be taken. It holds nothing of it.
type bodyError struct{ problem problem }

func (e *bodyError) Error() string { return e.problem.title }

// decode reads the body as exactly one JSON value of the form of into: no unknown, no
// duplicate and no differently spelt member, no null, nothing after it.
func decode(c *gin.Context, into any) error { return decodeBody(c, into, false) }

// decodeNullable is decode for a schema in which a member that is null counts as left out.
func decodeNullable(c *gin.Context, into any) error { return decodeBody(c, into, true) }

func decodeBody(c *gin.Context, into any, nullable bool) error {
	return decodeUpTo(c, into, nullable, maxBody)
}

// decodeUpTo is decodeBody for a body of another size.
func decodeUpTo(c *gin.Context, into any, nullable bool, most int64) error {
	mediaType, _, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return &bodyError{problem{status: http.StatusUnsupportedMediaType, name: "media-type", title: "Not application/json",
			detail: "Send the body as Content-Type: application/json."}}
	}
	b, err := readBody(c, most)
	if err != nil {
		return err
	}
	err = json.Unmarshal(b, into, json.RejectUnknownMembers(true))
	switch {
	case err == nil && (jsontext.Value(b).Kind() == 'n' || !nullable && holdsNull(b)):
		return malformedBody("A value is null; leave out a member that is not meant.")
	case err == nil:
		return nil
	case errors.Is(err, jsontext.ErrDuplicateName):
		return malformedBody("A member stands twice in one object.")
	case errors.Is(err, json.ErrUnknownName):
		return malformedBody("A member is not known here. Names are case-sensitive; the API description lists them.")
	case isSyntactic(err):
		return malformedBody("The body is not one JSON value in UTF-8, or something follows it.")
	default:
		return malformedBody("A member has the wrong type; the API description gives the types.")
	}
}

// readBody reads a body of at most so many bytes.
func readBody(c *gin.Context, most int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, most))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &bodyError{problem{status: http.StatusRequestEntityTooLarge, name: "body-too-large", title: "Body too large",
			detail: "A body may have at most " + strconv.FormatInt(most, 10) + " bytes here."}}
	case err != nil:
		return nil, malformedBody("The body ended early.")
	}
	return b, nil
}

// holdsNull reports whether null stands anywhere in a valid JSON text: the decoder takes it
// for a value of any type.
func holdsNull(b []byte) bool {
	d := jsontext.NewDecoder(bytes.NewReader(b))
	for {
		switch t, err := d.ReadToken(); {
		case err != nil: // the end
			return false
		case t.Kind() == 'n':
			return true
		}
	}
}

// isSyntactic reports whether the fault is the JSON's own rather than its meaning here.
func isSyntactic(err error) bool {
	var s *jsontext.SyntacticError
	return errors.As(err, &s) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func malformedBody(detail string) error {
	return &bodyError{problem{status: http.StatusBadRequest, name: "malformed-body", title: "Malformed body", detail: detail}}
}

// writeJSON answers with a JSON document that no cache keeps.
func writeJSON(c *gin.Context, status int, mediaType string, body any) {
	b, err := json.Marshal(body)
	if err != nil { // our own types always encode
		c.AbortWithStatus(http.StatusInternalServerError)
		return
	}
	c.Data(status, mediaType, b)
}
