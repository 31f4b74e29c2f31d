# The application's own image with strongroom in front of its command: it is started with exactly the key that was proved on its
# database, and not at all with a wrong one. The static program needs nothing of the image that it goes into.
#
#   docker build --file docs/recipes/app.Dockerfile --tag my-app .

ARG APP=node:22-slim
FROM ${APP}
COPY --from=strongroom /usr/local/bin/strongroom /usr/local/bin/strongroom
ENV STRONGROOM_CONFIG=/etc/strongroom/strongroom.toml
ENTRYPOINT ["/usr/local/bin/strongroom", "guard", "--wait", "60s", "--"]
# What the image starts without strongroom; a CMD has to be said again after an ENTRYPOINT.
CMD ["node", "server.js"]
