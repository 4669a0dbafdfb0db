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

  // Redoc shows a picture from its maker's server. The policy forbids that; here it is not even tried.
  function isOurs(value) {
    const address = new URL(value, location);
    return address.protocol === "data:" || address.origin === location.origin;
  }

  function ownPicturesOnly() {
    const pictures = HTMLImageElement.prototype;
    const attributeSet = pictures.setAttribute;
    const source = Object.getOwnPropertyDescriptor(pictures, "src");
    pictures.setAttribute = function (name, value) {
      if (name !== "src" || isOurs(value)) attributeSet.call(this, name, value);
    };
    Object.defineProperty(pictures, "src", {
      ...source,
      set(value) {
        if (isOurs(value)) source.set.call(this, value);
      },
    });
  }

  if (redoc) {
    ownPicturesOnly();
    const fontFamily = "system-ui, sans-serif";
    const theme = {
      colors: { primary: { main: "#1f5fbf" } },
      typography: { fontFamily, headings: { fontFamily } },
    };
    Redoc.init(
      redoc.dataset.schema,
      { disableSearch: true, nativeScrollbars: true, theme },
      redoc,
    );
  }
})();
