/* Starts Swagger UI or Redoc, whichever the page has; nothing is asked of any other host. */
"use strict";

(() => {
  const swagger = document.getElementById("swagger");
  const redoc = document.getElementById("redoc");

  if (swagger) {
    SwaggerUIBundle({
      url: swagger.dataset.schema,
      domNode: swagger,
      deepLinking: true,
      displayRequestDuration: true,
      validatorUrl: null,
      persistAuthorization: false,
      defaultModelsExpandDepth: 0,
      presets: [SwaggerUIBundle.presets.apis],
      layout: "BaseLayout",
      // For who is logged in here; a token needs none.
      requestInterceptor(request) {
        if (request.method === "POST") request.headers["X-CSRFToken"] = swagger.dataset.csrf;
        return request;
      },
    });
  }

  if (redoc) {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const theme = dark
      ? {
          colors: { text: { primary: "#e6e9ee", secondary: "#aab2bf" }, primary: { main: "#7fb2ff" } },
          sidebar: { backgroundColor: "#14181f", textColor: "#e6e9ee" },
          rightPanel: { backgroundColor: "#0b0e13" },
          schema: { nestedBackground: "#1b212b", typeNameColor: "#aab2bf", typeTitleColor: "#aab2bf" },
        }
      : { colors: { primary: { main: "#1f5fbf" } } };
    const fonts = { fontFamily: "system-ui, sans-serif", headings: { fontFamily: "system-ui, sans-serif" } };
    Redoc.init(
      redoc.dataset.schema,
      { disableSearch: true, hideDownloadButton: false, nativeScrollbars: true, theme: { ...theme, typography: fonts } },
      redoc,
    );
  }
})();
