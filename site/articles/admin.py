from django.contrib import admin

from articles.models import Article, Comment

admin.site.site_header = "The newsroom"
admin.site.site_title = "The newsroom"
admin.site.index_title = "Desk"


@admin.register(Article)
class ArticleAdmin(admin.ModelAdmin):
    """Articles as editors see them."""

    list_display = ["headline", "published"]
    search_fields = ["headline"]


@admin.register(Comment)
class CommentAdmin(admin.ModelAdmin):
    """Comments as editors and reporters see them."""

    list_display = ["text", "author", "article", "written"]
    list_select_related = ["article"]
