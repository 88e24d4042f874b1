'use strict';
// validatorUrl null: nothing of the description is sent to anybody.
SwaggerUIBundle({
  url: '../openapi.yaml',
  dom_id: '#swagger-ui',
  presets: [SwaggerUIBundle.presets.apis],
  layout: 'BaseLayout',
  validatorUrl: null,
  deepLinking: true,
  docExpansion: 'list',
});
